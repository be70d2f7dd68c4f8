"""What one look of the doctor finds, and how it is judged."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from enum import Enum

import attrs

from machine_lifecycle.errors import LifecycleError

__all__ = ["Doubtful", "Finding", "Look", "NoPlan", "Skipped", "Verdict", "judged"]

_LIMIT = 20.0
"""Seconds for one look; a driver that wakes up takes three."""


class Verdict(Enum):
    """How one look came out."""

    PASS = "pass"  # noqa: S105 - a verdict
    WARN = "warn"
    """A boot would go on, perhaps not as is meant."""
    FAIL = "fail"
    SKIP = "skip"
    """It does not matter for this machine."""


@attrs.frozen(kw_only=True)
class Finding:
    """What one look found.

    Attributes:
        name: What was looked at.
        detail: What was found, in a line.
        error: What a boot would fail with, or stumble over; it has the remedies.
        seconds: How long the look took.
    """

    name: str
    verdict: Verdict
    detail: str
    error: LifecycleError | None = None
    seconds: float = 0.0


@attrs.frozen(kw_only=True)
class Skipped:
    """It does not matter here, and why."""

    why: str


@attrs.frozen(kw_only=True)
class Doubtful:
    """A boot would go on; what it would stumble over."""

    detail: str
    error: LifecycleError | None = None


class NoPlan(Exception):
    """A look needs a plan, and none can be made."""


Look = Callable[[], Awaitable[str | Skipped | Doubtful]]


async def judged(name: str, look: Look) -> Finding:
    """Take a look, and judge what it says or raises."""
    began = time.monotonic()
    error: LifecycleError | None = None
    try:
        async with asyncio.timeout(_LIMIT):
            found = await look()
    except TimeoutError:
        verdict, detail = Verdict.WARN, f"no answer within {_LIMIT:g} s"
    except NoPlan:
        verdict, detail = Verdict.SKIP, "there is no plan"
    except LifecycleError as raised:
        (first, *others) = raised.parts()
        error = raised if others else first
        verdict, detail = Verdict.FAIL, error.summary
    else:
        match found:
            case Skipped(why=why):
                verdict, detail = Verdict.SKIP, why
            case Doubtful():
                verdict, detail, error = Verdict.WARN, found.detail, found.error
            case _:
                verdict, detail = Verdict.PASS, found
    seconds = time.monotonic() - began
    return Finding(name=name, verdict=verdict, detail=detail, error=error, seconds=seconds)
