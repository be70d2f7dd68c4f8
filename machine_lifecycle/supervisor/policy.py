"""Whether and when a process that ended is started again: a pure decision."""

from __future__ import annotations

import re

import attrs

from machine_lifecycle.model.processes import ExitCause, RestartPolicy, RestartWhen

__all__ = [
    "GiveUp",
    "History",
    "Rest",
    "Verdict",
    "Wait",
    "decide",
    "never_ready",
    "record",
    "settled",
]

_CHANGES = re.compile(r"0x[0-9a-fA-F]+|\d+")
"""What differs between two ends that are the same: times, ports, addresses, process numbers."""


@attrs.frozen
class History:
    """Restarts so far.

    Attributes:
        times: When each restart was decided, on the monotonic clock, oldest first.
        streak: Restarts since the process last stayed ready for ``min_uptime``.
        proved: Whether it was ready once: then it can start, and what fails now may be past later.
        end: How its latest start ended, if it never was ready, without what changes each time.
        alike: Starts in a row that ended so.
    """

    times: tuple[float, ...] = ()
    streak: int = 0
    proved: bool = False
    end: str = ""
    alike: int = 0


@attrs.frozen
class Wait:
    """Start it again after so many seconds."""

    seconds: float


@attrs.frozen
class GiveUp:
    """Don't start it again; the reason why."""

    reason: str


@attrs.frozen
class Rest:
    """It ended as it should; leave it."""


Verdict = Wait | GiveUp | Rest


def settled(policy: RestartPolicy, history: History, ready_for: float) -> History:
    """The history after a run that was ready for so many seconds: counted anew if long enough."""
    known = History() if ready_for >= policy.min_uptime else history
    return attrs.evolve(known, proved=True)


def never_ready(history: History, cause: ExitCause) -> History:
    """The history after a start that ended before the process was ready."""
    said = next((line for line in reversed(cause.tail) if line.strip()), "")
    end = _CHANGES.sub("N", f"{cause.reason}: {said}")
    return attrs.evolve(history, end=end, alike=history.alike + 1 if end == history.end else 1)


def decide(
    policy: RestartPolicy,
    history: History,
    *,
    failed: bool,
    now: float,
    fraction: float,
    hopeless: bool = False,
) -> Verdict:
    """What to do about a process that has just ended.

    Args:
        policy: The process's.
        history: After ``settled``.
        failed: Whether it ended other than with status 0.
        now: Seconds on the monotonic clock.
        fraction: A random number from 0 to 1, for the jitter.
        hopeless: Whether it said that another start would end the same. One that was ready before
            is not believed in that.
    """
    if policy.when is RestartWhen.NEVER or (policy.when is RestartWhen.ON_FAILURE and not failed):
        return GiveUp("it is never restarted") if failed else Rest()
    if not history.proved and failed and hopeless:
        return GiveUp("it said that another start would end the same")
    if not history.proved and policy.alike and history.alike >= policy.alike:
        return GiveUp(f"{history.alike} starts ended so, and none got ready")
    recent = sum(1 for time in history.times if now - time < policy.window)
    if recent >= policy.budget:
        return GiveUp(f"{recent} restarts within {policy.window:g} s")
    # Beyond 2^60 the wait is at its longest anyway, and a float could not hold the power.
    longest = min(policy.backoff_max, policy.backoff * 2.0 ** min(history.streak, 60))
    return Wait(longest * (1.0 - policy.jitter * fraction))


def record(policy: RestartPolicy, history: History, now: float) -> History:
    """The history with one more restart; what is older than the window is forgotten."""
    times = tuple(time for time in history.times if now - time < policy.window)
    return attrs.evolve(history, times=(*times, now), streak=history.streak + 1)
