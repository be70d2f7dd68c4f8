"""Starting: look at the hardware, open the queue, make the plan, let workers stand by."""

from __future__ import annotations

import asyncio

from machine_lifecycle.errors import LifecycleError, Problems
from machine_lifecycle.model.plan import BootPlan
from machine_lifecycle.model.status import ConditionKind
from machine_lifecycle.model.text import counted
from machine_lifecycle.states.context import Context
from machine_lifecycle.states.stimuli import PlanMade, Stimulus

__all__ = ["run"]


async def run(ctx: Context) -> Stimulus:
    """Decide everything that will run, settle what an earlier run left, claim the machine's id.

    The queue is opened while the plan is made; neither needs the other. A mistake in the plan is
    told at once, beside what is wrong with the queue if that is known by then. Workers are spawned
    as soon as the plan is there: most of their start is imports, and they stand by until their
    service is ready. Run again, it finds the queue open and makes a new plan.
    """
    if ctx.attempt == 1:  # between attempts of one life the boot policy waits
        await ctx.crash_loop.wait(ctx.progress)
    opening = asyncio.ensure_future(ctx.queue.open(ctx.progress))
    try:
        plan = await _plan(ctx)
        await _launch_standby(ctx, plan, opening)
        await opening
    except LifecycleError as error:
        raise _both(error, opening) from error
    finally:
        opening.cancel()
        await asyncio.wait((opening,))
    began = ctx.clock.monotonic()
    await ctx.registry.register(plan)
    ctx.progress.finished("registration", seconds=ctx.clock.monotonic() - began)
    return PlanMade(attempt=ctx.attempt, plan=plan)


async def _plan(ctx: Context) -> BootPlan:
    began = ctx.clock.monotonic()
    hardware = await ctx.hardware.detect()
    gpus = counted(len(hardware.gpus), "GPU")
    ctx.progress.step("hardware", f"{gpus} ({hardware.source.value})")
    ctx.progress.finished("hardware", seconds=ctx.clock.monotonic() - began)
    began = ctx.clock.monotonic()
    await ctx.planner.prepare(ctx.progress)
    plan = ctx.planner.plan(hardware)
    processes = counted(len(plan.processes), "process", "processes")
    ctx.progress.step("plan", f"{processes}, {counted(len(plan.workers), 'worker')}")
    ctx.progress.finished("plan", seconds=ctx.clock.monotonic() - began)
    return plan


async def _launch_standby(ctx: Context, plan: BootPlan, opening: asyncio.Future[None]) -> None:
    if opening.done():
        opening.result()  # without a queue none of them could do anything
    adopted = await ctx.supervisor.recover(plan.processes)
    if adopted:
        ctx.condition(ConditionKind.RESUMING, "adoption", f"adopted {', '.join(adopted)}")
    await ctx.supervisor.launch([spec for spec in plan.processes if spec.standby and spec.needs])


def _both(error: LifecycleError, opening: asyncio.Future[None]) -> LifecycleError:
    """What is wrong with the plan, and with the queue where that is known by now."""
    other = opening.exception() if opening.done() and not opening.cancelled() else None
    if other is None or other is error or not isinstance(other, LifecycleError):
        return error
    return Problems(subject="Starting", errors=(*error.parts(), *other.parts()))
