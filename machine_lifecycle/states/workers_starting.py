"""WorkersStarting: wait until every worker is connected to its service and to the queue."""

from __future__ import annotations

from machine_lifecycle.states.context import Context
from machine_lifecycle.states.stimuli import Stimulus, WorkersConnected

__all__ = ["run"]


async def run(ctx: Context) -> Stimulus:
    """Wait for each worker's word that it is registered; fail the moment one is given up."""
    names = [worker.process for worker in ctx.plan.workers]
    began = ctx.clock.monotonic()
    await ctx.supervisor.wait_ready(names, ctx.progress)
    seconds = ctx.clock.monotonic() - began
    ctx.progress.finished("workers", seconds=seconds, skipped=not names)
    return WorkersConnected(attempt=ctx.attempt)
