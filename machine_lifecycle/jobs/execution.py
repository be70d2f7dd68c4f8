"""What a worker does with jobs that it claimed: run them, and write down how they ended."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from machine_lifecycle.errors import LifecycleError
from machine_lifecycle.jobs.ahead import Ahead
from machine_lifecycle.jobs.answers import Answers
from machine_lifecycle.jobs.brevity import brief_error
from machine_lifecycle.jobs.claims import Claimed
from machine_lifecycle.jobs.delay import Rounds
from machine_lifecycle.jobs.failures import Failures
from machine_lifecycle.jobs.outcomes import Outcome
from machine_lifecycle.jobs.oversize_errors import too_large
from machine_lifecycle.jobs.reporting import Reports
from machine_lifecycle.jobs.running import Ended, RunningJob
from machine_lifecycle.jobs.settling import Settler
from machine_lifecycle.jobs.slots import Slot, Slots
from machine_lifecycle.jobs.stores import OutputStore
from machine_lifecycle.jobs.worker_config import WorkerConfig
from machine_lifecycle.jobs.worker_services import WorkerServices
from machine_lifecycle.jobs.worker_voice import WorkerVoice
from machine_lifecycle.model.jobs import JobResult
from machine_lifecycle.system.tasks import end_tasks

__all__ = ["Execution"]

_ROUNDS = 3
"""Of the event loop, until a connector that was begun has sent its request."""


class Execution:
    """Does claimed jobs, as many at a time as it is given."""

    def __init__(
        self,
        config: WorkerConfig,
        reports: Reports,
        settler: Settler,
        services: WorkerServices,
        voice: WorkerVoice,
        *,
        give: Callable[[Outcome], None],
        on_free: Callable[[], None],
        on_hung: Callable[[float], None],
    ) -> None:
        """Make it; nothing runs until ``start``.

        Args:
            config: Whose it is.
            reports: Tells progress.
            settler: Writes down how runs end.
            services: Who does the work.
            voice: Tells what happens.
            give: Takes results.
            on_free: Called when a job is over and its slot is free.
            on_hung: Called with seconds to rest while a service, or Redis, fails job after job.
        """
        self.running: dict[str, RunningJob] = {}
        self.slots: Slots = Slots(services.limits, on_free)
        self.fault: BaseException | None = None
        """What broke here, which is no fault of a job: the worker can't go on."""
        self._failures = Failures(services, settler, voice, on_hung=on_hung)
        self._ahead = Ahead(self.slots)
        self._word = Answers(voice, config.outbox, on_hung=on_hung, cli=config.redis_cli).word
        self._tasks: set[asyncio.Task[None]] = set()
        self._soon = Rounds(_ROUNDS)
        self._config = config
        self._store = OutputStore(config.output_store) if config.output_store else None
        self._reports = reports
        self._settler = settler
        self._services = services
        self._voice = voice
        self._give = give
        self._on_free = on_free

    def cancel(self, job_id: str) -> None:
        """Somebody asked that this job end; nothing happens if it does not run here."""
        if job_id in self.running:
            self.running[job_id].cut("cancelled")

    def give_back(self, reason: str, *, crashed: bool = False) -> None:
        """Cut short what runs, and put it back; *crashed*: it may be to blame, which counts."""
        for running in self.running.values():
            running.cut("crashed" if crashed and running.has_begun else "released", reason)

    @property
    def idle(self) -> bool:
        """Whether nothing runs or is being written down."""
        return not self._tasks and not self.running

    async def end(self) -> None:
        """Stop whatever still goes on, and give the results that are there."""
        self._soon.flush()
        for running in self.running.values():
            running.abandon()
        await end_tasks(*self._tasks, *self._reports.endings)

    def expect(self, claimed: Claimed) -> Slot:
        """Keep a slot for a job that has come."""
        return self.slots.take(self._services.of(claimed))

    def start(self, claimed: Claimed, slot: Slot) -> None:
        """Do it."""
        before = self.running.get(claimed.id)
        if before is not None:
            if before.fence == claimed.fence:
                slot.end()
                return  # told twice
            # Frozen for longer than its lease, it gets the job anew before it hears of that.
            before.cut("lost", "its lease had ended")
        try:
            job = claimed.job(default_timeout=self._config.timeout_of(claimed.service_required))
        except LifecycleError as error:  # nothing can be made of what another party wrote
            slot.end()
            self._spawn(self._refused(claimed, error))
            return
        running = RunningJob(
            job, claimed.fence, self._services.connector(slot.service),
            report=lambda progress: self._reports.tell(claimed, progress),
            turned=lambda: self._turned(claimed, running, slot),
            service_free=slot.lend, first_report=self._reports.first,
        )  # fmt: skip
        self.running[claimed.id] = running
        self._voice.taken(claimed.id)
        if slot.ahead:
            self._ahead.keep(running, slot, partial(self._begin, running))
        else:
            self._begin(running)

    def _begin(self, running: RunningJob) -> None:
        if self._voice.holds:  # what brought it came late
            running.cut("released", "its worker takes no jobs any more")
        else:
            running.begin()

    def _turned(self, claimed: Claimed, running: RunningJob, slot: Slot) -> None:
        """A run has ended, or is to end. What needs no waiting is done at once."""
        seconds = time.monotonic() - running.began
        if running.reporter:
            self._reports.end(running.reporter)
        result = running.result_at_once()
        if result is None or (self._store and result.outputs):
            self._spawn(self._settle(claimed, running, slot, seconds))
            return
        self._try(claimed, partial(self._succeeded, slot, seconds))
        write = partial(self._write, claimed, slot.service, result, seconds)
        if slot.followed:  # by one that has to ask the service, which waits for it
            self._soon.call(partial(self._try, claimed, write))
        else:
            self._try(claimed, write)

    def _try(self, claimed: Claimed, do: Callable[[], None]) -> None:
        try:
            do()
        except LifecycleError as error:
            self._spawn(self._refused(claimed, error))
        except Exception as error:  # noqa: BLE001 - a fault of ours ends the worker, see ``run``
            self.fault = self.fault or error
            self._on_free()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            self.fault = self.fault or task.exception()
        self._on_free()

    async def _settle(self, claimed: Claimed, run: RunningJob, slot: Slot, seconds: float) -> None:
        try:
            result = await run.finish()
        except Ended as end:
            said = await self._settler.cut(claimed, end.outcome, end.reason)
        except LifecycleError as error:
            said = await self._failures.settle(
                claimed, slot.service, brief_error(error, claimed.id)
            )
        else:
            await self._keep(claimed, slot, result, seconds)
            return
        slot.end()
        self._over(claimed, said)

    async def _keep(self, claimed: Claimed, slot: Slot, result: JobResult, seconds: float) -> None:
        self._succeeded(slot, seconds)
        try:
            if self._store and result.outputs:
                self._on_free()
                result = await self._store.keep(claimed.id, claimed.fence, result)
            self._write(claimed, slot.service, result, seconds)
        except LifecycleError as error:
            await self._refused(claimed, error)

    def _succeeded(self, slot: Slot, seconds: float) -> None:
        self.slots.took(slot.service, seconds)
        self._failures.succeeded(slot.service)
        # Its slot is free for the next job, also while the files are put away.
        slot.end()

    def _write(self, claimed: Claimed, service: str, result: JobResult, seconds: float) -> None:
        answered = partial(self._over, claimed, result=True)
        outcome = self._settler.result(
            claimed, result, service=service, seconds=seconds, answered=answered
        )
        self._give(outcome)

    async def _refused(self, claimed: Claimed, error: LifecycleError) -> None:
        self._over(claimed, await self._settler.fail(claimed, error))

    def _over(self, claimed: Claimed, said: str, *, result: bool = False) -> None:
        if (error := too_large(claimed.id, said)) is not None:
            error.cli = self._config.redis_cli
            self._spawn(self._refused(claimed, error))
            return
        outcome = self._word(claimed.id, said, result=result)
        running = self.running.get(claimed.id)
        if running is not None and running.fence == claimed.fence:
            del self.running[claimed.id]
            self._voice.done(claimed.id, outcome)
