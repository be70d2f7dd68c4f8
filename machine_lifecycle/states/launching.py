"""Launching: spawn the processes."""

from __future__ import annotations

from machine_lifecycle.states.context import Context
from machine_lifecycle.states.stimuli import ProcessesLaunched, Stimulus

__all__ = ["run"]


async def run(ctx: Context) -> Stimulus:
    """Hand every process to the supervisor, which follows their dependencies from here on.

    Workers that stand by since Starting are left alone. Processes of an earlier
    orchestrator that match the plan are adopted, so a second run spawns nothing twice.
    """
    began = ctx.clock.monotonic()
    await ctx.supervisor.launch(ctx.plan.processes)
    ctx.progress.finished("spawn", seconds=ctx.clock.monotonic() - began)
    return ProcessesLaunched(attempt=ctx.attempt)
