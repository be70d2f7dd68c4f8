"""CustomNodes: install the node packs of ComfyUI."""

from __future__ import annotations

from machine_lifecycle.model.status import ConditionKind
from machine_lifecycle.states.context import Context
from machine_lifecycle.states.installing import install
from machine_lifecycle.states.stimuli import NodesInstalled, Stimulus

__all__ = ["run"]


async def run(ctx: Context) -> Stimulus:
    """Do the node steps of every service that has some.

    A pack that fails and is not required is left out, and the machine goes on degraded.
    """
    await install(ctx, "nodes")
    out = ctx.installer.failures
    if out:
        many = "s are" if len(out) > 1 else " is"
        reasons = "; ".join(f"{name} ({error.summary})" for name, error in out.items())
        words = f"{len(out)} node pack{many} left out: {reasons}"
        ctx.condition(ConditionKind.DEGRADED, "packs", words)
    return NodesInstalled(attempt=ctx.attempt)
