"""What becomes of a run that failed: whether it is tried again, when, and whether it counts."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator

import attrs
from redis.exceptions import (
    BusyLoadingError,
    ClusterDownError,
    MasterDownError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from machine_lifecycle.errors import LifecycleError
from machine_lifecycle.jobs.functions import LOST
from machine_lifecycle.system.redis import refusal_of
from machine_lifecycle.system.redis_errors import Refusal
from machine_lifecycle.system.redis_foreign import ForeignKey
from machine_lifecycle.system.redis_functions import FunctionsRefused

__all__ = ["AWAY", "Verdict", "passed_over", "passing", "refused", "verdict"]

_Kind = type[Exception]
AWAY: tuple[_Kind, _Kind, _Kind] = (RedisConnectionError, RedisTimeoutError, OSError)
"""What a Redis that restarts, or can't be reached, looks like."""

_TIDIED = (ForeignKey, FunctionsRefused)
"""Refusals until somebody tidies up. They are of all that the queue does."""
_PASSING = (BusyLoadingError, MasterDownError, ClusterDownError, TryAgainError, *_TIDIED)
"""Those, and of a server that starts, or looks for its primary."""

_PASSING_WORDS = ("BUSY ", "NOREPLICAS ", "MISCONF ")
"""First words of others: a script runs long, replicas are missing, the server's disk is full."""

_LONGEST_WAIT = 60.0
_MOST_DOUBLINGS = 30
"""The number of tries is of a record that others write: any number may stand there."""

_KINDS = {
    "service-out-of-memory": "out-of-memory",
    "prompt-lost": "lost",
    "service-unreachable": "service-down",
    "service-down": "service-down",
    "service-hung": "service-down",
    "gpu-fault": "service-down",
    "gpu-broken": "lost",
    "prompt-interrupted": "interrupted",
    "job-timeout": "timeout",
    "prompt-timeout": "timeout",
    "job-crashed": "crashed",
}
"""Kind of failure by the error's code. Others are ``transient`` or, for good, ``invalid``."""

_FACTORS = {"out-of-memory": 5.0, "crashed": 2.0}
"""How much longer than usual to wait: memory is given back by the next job, not by the clock."""


@attrs.frozen
class Verdict:
    """What to do with a failure.

    Attributes:
        kind: ``transient``, ``invalid``, ``out-of-memory``, ``lost``, ``service-down``,
            ``interrupted``, ``timeout`` or ``crashed``.
        again: Whether another run may end better.
        counts: Whether it uses up one of the job's runs. What a service loses does not, up to the
            queue's own limit.
        wait: Seconds before the next run.
    """

    kind: str
    again: bool
    counts: bool
    wait: float


def verdict(error: LifecycleError, *, attempt: int, base: float) -> Verdict:
    """Judge an error.

    Args:
        error: Why the run failed.
        attempt: How many runs failed before.
        base: Seconds before the first further run; doubles with each.
    """
    kind = _KINDS.get(error.code, "transient" if error.recoverable else "invalid")
    doubled = 2.0 ** min(max(attempt, 0), _MOST_DOUBLINGS)
    wait = min(base * doubled * _FACTORS.get(kind, 1.0), _LONGEST_WAIT)
    spread = random.uniform(0.8, 1.2)  # noqa: S311  # spreads retries, guards nothing
    return Verdict(kind=kind, again=error.recoverable, counts=kind != "lost", wait=wait * spread)


@contextlib.contextmanager
def passed_over(told: Callable[[Exception | None], None] | None = None) -> Iterator[None]:
    """Go on after a Redis that is away: it is asked again later. What it refuses is raised.

    Args:
        told: Called with what was passed over; ``None``: nothing.
    """
    passed: Exception | None = None
    try:
        yield
    except (*AWAY, ResponseError) as error:
        if not passing(error):
            raise
        passed = error
    if told is not None:
        told(passed)


def passing(error: Exception) -> bool:
    """Whether a refusal goes away by itself, or by an operator's hand, as of a server that is full.

    Only a fault of ours is raised: a command that no server would take.
    """
    return (
        refusal_of(error) is not Refusal.OTHER
        or isinstance(error, _PASSING)
        or str(error).startswith(_PASSING_WORDS)
        or LOST in str(error)  # it is put there again
    )


def refused(error: Exception) -> bool:
    """Whether Redis refuses just this, as what stands in a key's place or what a user may do is
    wrong: others may fare better, and to wait is no use or may last.
    """
    if isinstance(error, _TIDIED):
        return False
    return not passing(error) or refusal_of(error) is Refusal.NOT_PERMITTED
