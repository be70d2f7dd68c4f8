"""Stopping: hand jobs back, end every process, deregister. Within the stop budget."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from machine_lifecycle.errors import LifecycleError
from machine_lifecycle.states.context import Context
from machine_lifecycle.states.stimuli import AllStopped, Stimulus

__all__ = ["force", "run"]

_DRAIN_SHARE = 0.8
"""Largest share of the stop budget in which jobs may end; processes need the rest to end well."""

_DEREGISTER_SHARE = 0.1
"""Share of the stop budget that is kept for deregistration and for closing the queue."""


async def run(ctx: Context) -> Stimulus:
    """Drain, release, stop, deregister, close the queue; each within its share of the budget.

    Everything here may find that there is nothing to do: a stop can come in any state.
    """
    end = ctx.clock.monotonic() + ctx.settings.stop_budget
    kept = ctx.settings.stop_budget * _DEREGISTER_SHARE
    await ctx.links.drain()
    if ctx.jobs.running():
        patience = min(ctx.settings.drain_budget, ctx.settings.stop_budget * _DRAIN_SHARE)
        began = ctx.clock.monotonic()
        ctx.progress.step("drain", f"{ctx.jobs.running()} jobs may end within {patience:g} s")
        await _within(patience, ctx.jobs.none_running())
        await ctx.links.release()
        ctx.progress.finished("drain", seconds=ctx.clock.monotonic() - began)
    await ctx.supervisor.stop_all(max(0.0, end - ctx.clock.monotonic() - 2 * kept))
    await _deregister(ctx, kept)
    await ctx.queue.close()
    return AllStopped()


async def force(ctx: Context) -> Stimulus:
    """End everything at once; what can be said to the fleet in a moment is said."""
    ctx.supervisor.kill_all()
    await _deregister(ctx, ctx.settings.stop_budget * _DEREGISTER_SHARE)
    await ctx.queue.close()
    return AllStopped()


async def _deregister(ctx: Context, seconds: float) -> None:
    """Take the machine out of Redis; if that is away, what stands there ends by itself."""
    try:
        await _within(seconds, ctx.registry.deregister())
    except LifecycleError as error:
        ctx.progress.step("deregister", f"left to expire: {error.summary}")


async def _within(seconds: float, waiting: Coroutine[Any, Any, None]) -> None:
    """Wait for a coroutine, but not longer: a stop goes on in any case."""
    try:
        await asyncio.wait_for(waiting, seconds)
    except TimeoutError:
        return
