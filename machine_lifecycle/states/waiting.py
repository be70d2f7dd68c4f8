"""Waiting for several processes of which some may be lost: shared by services and workers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from machine_lifecycle.errors import LifecycleError, Problems
from machine_lifecycle.model.processes import ProcessState
from machine_lifecycle.model.status import ConditionKind
from machine_lifecycle.states.context import Context

__all__ = ["given_up", "wait_for_enough"]


async def wait_for_enough(ctx: Context, names: Sequence[str], what: str) -> None:
    """Wait until each of *names* is ready or given up.

    The machine goes on, degraded, as long as the floor of healthy ones holds
    (``MACHINE_MIN_HEALTHY``, at least 1).

    Raises:
        LifecycleError: Too few are left; every failure is in it.
    """
    waits = [ctx.supervisor.wait_ready((name,), ctx.progress) for name in names]
    results = await asyncio.gather(*waits, return_exceptions=True)
    errors: list[LifecycleError] = []
    for result in results:
        if isinstance(result, LifecycleError):
            errors.append(result)
        elif isinstance(result, BaseException):
            raise result
    if not errors:
        return
    floor = max(1, ctx.settings.min_healthy)
    if len(names) - len(errors) < floor:
        raise errors[0] if len(errors) == 1 else Problems(subject=what, errors=tuple(errors))
    reasons = "; ".join(error.summary for error in errors)
    ctx.condition(
        ConditionKind.DEGRADED, f"{len(errors)} of {len(names)} {what} are out: {reasons}"
    )


def given_up(ctx: Context) -> frozenset[str]:
    """Names of processes that the supervisor has given up."""
    fatal = ProcessState.FATAL
    return frozenset(s.name for s in ctx.supervisor.statuses() if s.state is fatal)
