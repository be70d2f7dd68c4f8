"""WorkersStarting: wait until every worker is connected to its service and to the queue."""

from __future__ import annotations

from machine_lifecycle.model.processes import Role
from machine_lifecycle.states.context import Context
from machine_lifecycle.states.stimuli import Stimulus, WorkersConnected
from machine_lifecycle.states.waiting import given_up, wait_for_enough

__all__ = ["run"]


async def run(ctx: Context) -> Stimulus:
    """Wait for each worker's word that it is registered; those of a lost service don't count."""
    lost = given_up(ctx)
    specs = [
        spec
        for spec in ctx.plan.processes
        if spec.role is Role.WORKER and not lost.intersection(spec.needs)
    ]
    began = ctx.clock.monotonic()
    await wait_for_enough(ctx, specs, "workers")
    seconds = ctx.clock.monotonic() - began
    ctx.progress.finished("workers", seconds=seconds, skipped=not specs)
    return WorkersConnected(attempt=ctx.attempt)
