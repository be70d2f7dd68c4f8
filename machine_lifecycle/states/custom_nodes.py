"""CustomNodes: install the node packs of ComfyUI."""

from __future__ import annotations

from collections.abc import Mapping

from machine_lifecycle.errors import LifecycleError
from machine_lifecycle.model.status import ConditionKind, causes_in_words
from machine_lifecycle.states.context import Context
from machine_lifecycle.states.installing import install
from machine_lifecycle.states.stimuli import NodesInstalled, Stimulus

__all__ = ["run"]


async def run(ctx: Context) -> Stimulus:
    """Do the node steps of every service that has some.

    A pack or a model that fails and is not required is left out, and the machine goes on degraded.
    """
    await install(ctx, "nodes")
    out = ctx.installer.failures
    if out:
        ctx.condition(ConditionKind.DEGRADED, "packs", _words(out))
    return NodesInstalled(attempt=ctx.attempt)


def _words(out: Mapping[str, LifecycleError]) -> str:
    """What is left out and why."""
    causes = {name: error.summary for name, error in out.items()}
    return f"{len(out)} left out of the installation: {causes_in_words(causes)}"
