"""CustomNodes: install the node packs of ComfyUI."""

from __future__ import annotations

from machine_lifecycle.states.context import Context
from machine_lifecycle.states.installing import install
from machine_lifecycle.states.stimuli import NodesInstalled, Stimulus

__all__ = ["run"]


async def run(ctx: Context) -> Stimulus:
    """Do the node steps of every service that has some."""
    await install(ctx, "nodes")
    return NodesInstalled(attempt=ctx.attempt)
