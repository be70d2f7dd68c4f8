"""PMGeneration: write down what will run."""

from __future__ import annotations

from machine_lifecycle.states.context import Context
from machine_lifecycle.states.stimuli import ProcessesPrepared, Stimulus

__all__ = ["run"]


async def run(ctx: Context) -> Stimulus:
    """Write the process manifest in one step: secrets by name, never by value.

    (The name of the state is an older one: a process manager's file used to be generated here.)
    """
    began = ctx.clock.monotonic()
    ctx.manifest.write(ctx.plan)
    ctx.progress.finished("manifest", seconds=ctx.clock.monotonic() - began)
    return ProcessesPrepared(attempt=ctx.attempt)
