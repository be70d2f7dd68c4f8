"""Restarting: end what a failed attempt left running."""

from __future__ import annotations

from machine_lifecycle.states.context import Context
from machine_lifecycle.states.stimuli import CleanedUp, Stimulus

__all__ = ["run"]


async def run(ctx: Context) -> Stimulus:
    """Hand jobs back, then end every process; the queue stays open for the next attempt."""
    await ctx.links.release()
    await ctx.supervisor.stop_all(ctx.settings.stop_budget)
    return CleanedUp(attempt=ctx.attempt)
