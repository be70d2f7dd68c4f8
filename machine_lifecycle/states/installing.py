"""Installing: bring every service to disk."""

from __future__ import annotations

from machine_lifecycle.states.context import Context
from machine_lifecycle.states.stimuli import BaseInstalled, Stimulus

__all__ = ["install", "run"]


async def run(ctx: Context) -> Stimulus:
    """Do the base steps of every service, one service after the other.

    Steps that were done before are skipped; one that was cut short is repaired by its next run.
    """
    await install(ctx, "base")
    return BaseInstalled(attempt=ctx.attempt)


async def install(ctx: Context, stage: str) -> None:
    """Do one stage of every service; a service with nothing to do says ``skipped``."""
    for plan in ctx.plan.installs:
        began = ctx.clock.monotonic()
        done = await ctx.installer.install(plan, stage, ctx.progress)
        seconds = ctx.clock.monotonic() - began
        ctx.progress.finished(f"{plan.service} {stage}", seconds=seconds, skipped=done == 0)
