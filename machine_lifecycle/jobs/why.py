"""Why a job does not run: what each kind of living worker lacks for it."""

from __future__ import annotations

from typing import Any

import attrs

__all__ = ["Fit", "Why", "why_from_answer"]


@attrs.frozen(kw_only=True)
class Fit:
    """Equal workers, and what they lack.

    Attributes:
        workers: Their ids, at most 20.
        lacks: In words, each requirement that they don't meet, and what keeps them from any job;
            empty if they can run the job.
        busy: Whether they do other jobs now.
    """

    workers: tuple[str, ...]
    lacks: tuple[str, ...]
    busy: bool = False

    @property
    def words(self) -> str:
        """The same for people."""
        able = "can run it, when done with other jobs" if self.busy else "can run it"
        return f"{', '.join(self.workers)}: {'; '.join(self.lacks) or able}"


@attrs.frozen(kw_only=True)
class Why:
    """The state of a job in the queue.

    Attributes:
        status: The job's.
        reason: Why nobody ever can run it, or empty.
        fits: Every kind of living worker.
        ahead: How many jobs of its class go before it; -1 if it does not wait.
        due: Seconds until it is tried again after a failure; -1 if it does not wait for that.
    """

    status: str
    reason: str = ""
    fits: tuple[Fit, ...] = ()
    ahead: int = -1
    due: float = -1.0

    @property
    def words(self) -> tuple[str, ...]:
        """The same for people, a line each."""
        if self.reason:
            return (f"nobody can ever run it: {self.reason}",)
        if self.status not in {"pending", "queued", "unworkable"}:
            return (f"it is {self.status}",)
        able = [fit for fit in self.fits if not fit.lacks]
        lines = []
        if self.due >= 0:
            lines.append(f"it failed, and is tried again in {self.due:.1f} s")
        if not self.fits:
            lines.append("no worker is alive")
        elif not able:
            lines.append(
                f"0 of {sum(len(fit.workers) for fit in self.fits)} living workers can run it"
            )
        lines += [fit.words for fit in sorted(self.fits, key=lambda fit: bool(fit.lacks))]
        if able and self.ahead > 0:
            lines.append(f"{self.ahead} jobs like it go before it")
        return tuple(lines)


def why_from_answer(answer: list[Any]) -> Why:
    """Out of ``ml1_why``'s answer."""
    status, *more = answer
    if len(more) < 2:  # noqa: PLR2004 - a reason alone
        return Why(status=str(status), reason=str(more[0]) if more else "")
    _, fits, ahead, due = more
    return Why(
        status=str(status),
        fits=tuple(
            Fit(workers=tuple(workers), lacks=tuple(sorted(lacks)), busy=bool(busy))
            for workers, lacks, busy in fits
        ),
        ahead=int(ahead),
        due=int(due) / 1000 if int(due) >= 0 else -1.0,
    )
