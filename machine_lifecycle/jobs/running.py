"""One job on its way through a connector."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

import attrs
from redis.exceptions import RedisError

from machine_lifecycle.errors import LifecycleError
from machine_lifecycle.jobs.delay import Delay
from machine_lifecycle.jobs.errors import JobCrashed, JobTimeout
from machine_lifecycle.model.jobs import Job, JobResult, Output, Progress
from machine_lifecycle.model.ports import Connector
from machine_lifecycle.system.tasks import end_tasks

__all__ = ["Ended", "RunningJob"]

_log = logging.getLogger(__name__)

_PROGRESS_GAP = 0.2
"""Seconds between two reports of progress; the last one in between wins."""
_STARTED = Progress(fraction=0.0, message="started")
_CANCEL_LIMIT = 0.5
"""Seconds a service may take to let a cancelled job go."""


class Ended(Exception):  # it is why a run ended, seldom an error
    """A run ended without a result and without an error of its own.

    Attributes:
        outcome: ``cancelled``, ``released``, ``crashed`` (handed back, as the service went down)
            or ``lost``.
        reason: In words.
    """

    def __init__(self, outcome: str, reason: str = "") -> None:
        super().__init__(outcome)
        self.outcome = outcome
        self.reason = reason


def _nobody() -> None:
    """Whoever was to be told has been."""


class RunningJob:
    """Runs one job, reports its progress, and can be cut short from outside."""

    def __init__(
        self,
        job: Job,
        fence: int,
        connector: Connector,
        *,
        report: Callable[[Progress], Awaitable[str]],
        turned: Callable[[], None],
        first_report: Delay,
        service_free: Callable[[], None] = lambda: None,
    ) -> None:
        """Make a run; it starts with ``begin``.

        Args:
            job: What is to be done.
            fence: The number under which this run may write.
            connector: Who does it.
            report: Publishes progress; answers ``ok``, ``cancel`` or ``lost``.
            turned: Called once, when the work has ended, was cut short, or took too long.
            service_free: Called when the service could do another job, before the work has ended.
            first_report: Until it, nothing of the run is reported; most short ones are over then.
        """
        self.job = job
        self.fence = fence
        self.began: float = time.monotonic()
        """When it was begun, or made."""
        self._connector = connector
        self._report = report
        self._turned = turned
        self._service_free = service_free
        self._first_report = first_report
        self._latest: Progress | None = _STARTED
        self._changed: asyncio.Event | None = None
        self.reporter: asyncio.Task[None] | None = None
        """Tells progress, once the run has lasted a moment; whoever is told that the run has turned
        ends it.
        """
        self._work: asyncio.Task[JobResult] | None = None
        self._value: JobResult | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._has_turned = False
        self._end: Ended | None = None

    @property
    def has_begun(self) -> bool:
        """Whether the service has anything to do with it."""
        return self._work is not None

    def begin(self) -> None:
        """Start the work, unless it was cut short meanwhile."""
        if self._has_turned:
            return
        self.began = time.monotonic()
        self._work = asyncio.create_task(self._do())
        self._first_report.call(self._begin_reports)  # which sets the timer for what takes too long

    async def _do(self) -> JobResult:
        try:
            self._value = value = _checked(await self._connector.run(self.job, self._progress))
            return value
        finally:
            self._turn()  # a callback of the task would come one round of the event loop later

    def cut(self, outcome: str, reason: str = "") -> None:
        """End the run soon, whatever it does."""
        if not self._has_turned:
            self._end = Ended(outcome, reason)
            self._turn()

    def abandon(self) -> None:
        """Stop at once, without a word to anybody."""
        self._has_turned = True
        self._stop_timer()
        for task in (self._work, self.reporter):
            if task is not None:
                task.cancel()

    def result_at_once(self) -> JobResult | None:
        """The result of work that ended well; else ``finish`` has more to do."""
        return self._value

    async def finish(self) -> JobResult:
        """What came out, once the run has turned.

        Raises:
            Ended: It was cut short.
            JobTimeout: It took too long.
            JobCrashed: The connector broke.
            LifecycleError: What the connector raised.
        """
        work = self._work
        if work is None:
            raise self._end or Ended("released")
        try:
            if work.done():
                return self._result(work)
            await self._stop(work)
            raise self._end or JobTimeout(job_id=self.job.id, seconds=self.job.timeout)
        finally:
            if not work.done():
                await end_tasks(work)

    def _turn(self) -> None:
        if not self._has_turned:
            self._has_turned = True
            self._stop_timer()
            # Who is told holds this run: let go, or only the garbage collector would find it.
            turned, self._turned = self._turned, _nobody
            turned()

    def _stop_timer(self) -> None:
        self._first_report.call_off(self._begin_reports)
        if self._timer:
            self._timer.cancel()

    def _result(self, work: asyncio.Future[JobResult]) -> JobResult:
        try:
            return work.result()
        except LifecycleError:
            raise
        except asyncio.CancelledError as error:  # it cancelled itself
            raise JobCrashed(
                job_id=self.job.id, kind=type(error).__name__, message=str(error)
            ) from error
        except Exception as error:  # a connector may be a stranger's: its faults fail its job only
            raise JobCrashed(
                job_id=self.job.id, kind=type(error).__name__, message=str(error)
            ) from error

    async def _stop(self, work: asyncio.Future[JobResult]) -> None:
        """Make the service let go; its own way first, then by cancelling ``run``."""
        try:
            async with asyncio.timeout(_CANCEL_LIMIT):
                await self._connector.cancel(self.job.id)
        except (LifecycleError, OSError):
            pass  # it can't be reached, or takes too long
        except Exception:  # noqa: BLE001 - a connector may be a stranger's
            _log.exception("the connector can't cancel job %s", self.job.id)
        work.cancel()
        await asyncio.wait({work}, timeout=_CANCEL_LIMIT)
        if work.done() and not work.cancelled():
            work.exception()  # why it ended is known

    # Progress

    def _progress(self, progress: Progress) -> None:
        if progress.service_free and not self._has_turned:
            self._service_free()
        if self._latest and not progress.preview:  # a picture that was not shown yet still may be
            progress = attrs.evolve(progress, preview=self._latest.preview)
        self._latest = progress
        if self._changed:
            self._changed.set()

    def _begin_reports(self) -> None:
        left = max(0.0, self.job.timeout - self._first_report.seconds)
        self._timer = asyncio.get_running_loop().call_later(left, self._turn)
        self._changed = asyncio.Event()
        self._changed.set()
        self.reporter = asyncio.create_task(self._report_changes(self._changed))

    async def _tell(self, progress: Progress) -> None:
        """Progress is a hint: one that could not be told is followed by the next."""
        try:
            answer = await self._report(progress)
        except (RedisError, OSError):
            return
        except Exception:  # noqa: BLE001 - what a stranger's connector told can't be sent
            _log.exception("progress of job %s can't be reported", self.job.id)
            return
        if answer == "cancel":
            self.cut("cancelled")
        elif answer == "lost":
            self.cut("lost", "another worker has it, or it has ended")

    async def _report_changes(self, changed: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await changed.wait()
            changed.clear()
            latest, self._latest = self._latest, None
            began = loop.time()
            if latest is not None:
                await self._tell(latest)
            await asyncio.sleep(began + _PROGRESS_GAP - loop.time())


def _checked(found: Any) -> JobResult:
    """What a connector, which may be a stranger's, gave for a result, if it is one."""
    if not isinstance(found, JobResult):
        raise TypeError(f"the connector's run gave {type(found).__name__}, no JobResult")
    made: tuple[Any, ...] = found.outputs
    for output in made:
        if not (isinstance(output, Output) and isinstance(output.data, bytes | bytearray)):
            raise TypeError(f"an output is {output!r}, no Output with bytes")
    return found
