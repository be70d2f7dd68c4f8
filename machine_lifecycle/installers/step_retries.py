"""One step, tried until it is done or has failed for good."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from pathlib import Path

import attrs

from machine_lifecycle.errors import LifecycleError
from machine_lifecycle.installers.command import CommandRunner, Journal, Redactor
from machine_lifecycle.installers.errors import DiskFull, StepCrashed, StepTimeout
from machine_lifecycle.installers.space import fullest, ran_out
from machine_lifecycle.model.installing import Step, StepContext

__all__ = ["Tries"]

_WAIT_MAX = 8.0
"""Longest wait between two tries, in seconds."""
_AFTER_MAX = 120.0
"""Longest that a server may ask to wait, in seconds; one that wants more is not asked again."""


@attrs.define(kw_only=True)
class Tries:
    """Does one step.

    Attributes:
        step: Which.
        log: File for the output of its programs.
        folders: Where it may have run out of room, beside what its error names.
        journal: Of the installation.
        redact: Masks secrets.
        say: Takes a line of progress, for people.
        wait: Seconds before the second try, at most; doubles each time.
        doing: What it said last; empty: it has not begun.
    """

    step: Step
    log: Path
    folders: tuple[Path, ...]
    journal: Journal
    redact: Redactor
    say: Callable[[str], None]
    wait: float
    doing: str = attrs.field(init=False, default="")

    async def run(self) -> LifecycleError | None:
        """Try the step until it is done, or the last try failed; the error of that."""
        retries = self.step.retries
        for left in range(retries, -1, -1):
            error = await self._try(self.step.summary, self.step.run)
            if error is None or not error.recoverable or not left or error.retry_after > _AFTER_MAX:
                break
            asked, ceiling = error.retry_after, self.wait * 2.0 ** (retries - left)
            # Full jitter, so that many machines that lost one host do not come back as one.
            wait = asked + random.uniform(0, min(_WAIT_MAX, ceiling))  # noqa: S311 - no secret
            by_whom = " (as it was asked)" if asked else ""
            self.say(f"tried again in {wait:.1f} s{by_whom} after: {error.summary}")
            await asyncio.sleep(wait)
        if isinstance(error, StepTimeout):
            await self.repair(error)
        return error

    async def repair(self, error: LifecycleError) -> None:
        """Put right what the step left when it was cut short; what can't be put right is told with
        the error of that.
        """
        if not self.doing:
            return
        what = f"what {self.step.id} left half done is put right"
        if problem := await self._try(what, self.step.repair):
            error.context = (*error.context, problem.summary)

    async def _try(
        self, summary: str, run: Callable[[StepContext], Awaitable[None]]
    ) -> LifecycleError | None:
        run_command = CommandRunner(
            log=self.log, journal=self.journal, redact=self.redact, report=self._report
        )
        self._report(summary)
        try:
            async with asyncio.timeout(self.step.timeout) as limit:
                await run(StepContext(report=self._report, run_command=run_command))
        except DiskFull as error:
            error.needed = error.needed or self.step.space
            return error
        except LifecycleError as error:
            return error
        except Exception as error:  # noqa: BLE001 - a stranger's installer; kept as an outcome
            if isinstance(error, TimeoutError) and limit.expired():
                return StepTimeout(step=self.step.id, limit=self.step.timeout)
            return self.described(error)
        return None

    def _report(self, line: str) -> None:
        self.doing = line
        self.say(line)

    def described(self, error: Exception) -> LifecycleError:
        """An error that is no description of a problem, described."""
        if ran_out(error):
            named = [Path(error.filename)] if isinstance(error, OSError) and error.filename else []
            folder, free = fullest((*named, *self.folders))
            return DiskFull(folder=folder, free=free, needed=self.step.space)
        problem = self.redact(f"{type(error).__name__}: {error}")
        return StepCrashed(step=self.step.id, problem=problem)
