"""Waiting for several processes of which some may be lost: shared by services and workers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from machine_lifecycle.errors import LifecycleError, as_one
from machine_lifecycle.model.processes import ProcessSpec, ProcessState
from machine_lifecycle.model.progress import ProgressSink
from machine_lifecycle.model.status import ConditionKind
from machine_lifecycle.states.context import Context

__all__ = ["given_up", "wait_for_enough"]


async def wait_for_enough(ctx: Context, specs: Sequence[ProcessSpec], what: str) -> None:
    """Wait until each process is ready or given up.

    The machine goes on, degraded, as long as none of the lost ones is essential and the floor of
    healthy ones holds (``MACHINE_MIN_HEALTHY``, at least 1).

    Raises:
        LifecycleError: Too much is lost; every failure is in it.
    """
    progress = _AsOne(ctx.progress, len(specs))
    waits = [ctx.supervisor.wait_ready((spec.name,), progress) for spec in specs]
    results = await asyncio.gather(*waits, return_exceptions=True)
    errors: list[LifecycleError] = []
    essential = False
    for spec, result in zip(specs, results, strict=True):
        if isinstance(result, LifecycleError):
            errors.append(result)
            essential = essential or spec.essential
        elif isinstance(result, BaseException):
            raise result
    if not errors:
        return
    floor = max(1, ctx.settings.min_healthy)
    if essential or len(specs) - len(errors) < floor:
        raise as_one(what, errors)
    reasons = "; ".join(error.summary for error in errors)
    words = f"{len(errors)} of {len(specs)} {what} are out: {reasons}"
    ctx.condition(ConditionKind.DEGRADED, what, words)


class _AsOne:
    """The progress of several waits, for one process each, told as that of one wait for all."""

    def __init__(self, progress: ProgressSink, total: int) -> None:
        self._progress = progress
        self._ready = 0
        self._total = total

    def step(self, name: str, detail: str = "", **_counts_of_the_one: int) -> None:
        """One of them goes on."""
        self._progress.step(name, detail, done=self._ready, total=self._total)

    def finished(self, name: str, *, seconds: float, skipped: bool = False) -> None:
        """One of them is ready."""
        self._ready += 1
        self._progress.finished(name, seconds=seconds, skipped=skipped)


def given_up(ctx: Context) -> frozenset[str]:
    """Names of processes that the supervisor has given up."""
    fatal = ProcessState.FATAL
    return frozenset(s.name for s in ctx.supervisor.statuses() if s.state is fatal)
