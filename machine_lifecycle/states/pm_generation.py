"""PMGeneration: write down what will run."""

from __future__ import annotations

from machine_lifecycle.states.context import Context
from machine_lifecycle.states.stimuli import ProcessesPrepared, Stimulus

__all__ = ["run"]


async def run(ctx: Context) -> Stimulus:
    """Write the process manifest in one step: secrets by name, never by value.

    The plan is made again for that: what was installed meanwhile may say how it wants to be
    started (the arguments that this ComfyUI knows). What is equal stays equal.

    (The name of the state is an older one: a process manager's file used to be generated here.)
    """
    began = ctx.clock.monotonic()
    plan = ctx.planner.plan(ctx.plan.hardware)
    ctx.manifest.write(plan)
    ctx.progress.finished("manifest", seconds=ctx.clock.monotonic() - began)
    return ProcessesPrepared(attempt=ctx.attempt, plan=plan)
