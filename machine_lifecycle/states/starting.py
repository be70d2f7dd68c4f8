"""Starting: read the configuration, look at the hardware, open the queue, make the plan."""

from __future__ import annotations

import asyncio

from machine_lifecycle.states.context import Context
from machine_lifecycle.states.stimuli import PlanMade, Stimulus

__all__ = ["run"]


async def run(ctx: Context) -> Stimulus:
    """Decide everything that will run, and claim the machine's id.

    The queue is opened while the hardware is looked at; neither needs the other. Run again, it
    finds the queue open and makes a new plan.
    """
    began = ctx.clock.monotonic()
    async with asyncio.TaskGroup() as both:
        both.create_task(ctx.queue.open(ctx.progress))
        looking = both.create_task(ctx.hardware.detect())
    hardware = looking.result()
    count = len(hardware.gpus)
    ctx.progress.step(
        "hardware", f"{count} GPU{'' if count == 1 else 's'} ({hardware.source.value})"
    )
    plan = ctx.planner.plan(hardware)
    ctx.progress.step("plan", f"{len(plan.processes)} processes, {len(plan.workers)} workers")
    await ctx.registry.register(plan)
    ctx.progress.finished("plan", seconds=ctx.clock.monotonic() - began)
    return PlanMade(attempt=ctx.attempt, plan=plan)
