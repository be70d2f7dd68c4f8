"""One run over the steps of one stage: their order, their places, how each ended."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack

from machine_lifecycle.errors import LifecycleError
from machine_lifecycle.installers.base import Stamps, StepOutcome, StepStatus, file_name
from machine_lifecycle.installers.command import Journal, Redactor
from machine_lifecycle.installers.errors import PackTimeout
from machine_lifecycle.installers.pack_deadlines import PackDeadlines
from machine_lifecycle.installers.step_retries import Tries
from machine_lifecycle.model.installing import Step
from machine_lifecycle.model.paths import Paths
from machine_lifecycle.model.progress import FAILED, LEFT_OUT, ProgressSink

__all__ = ["StageRun"]


class StageRun:
    """One run over the steps of one stage."""

    def __init__(
        self,
        *,
        service: str,
        paths: Paths,
        journal: Journal,
        progress: ProgressSink,
        redact: Redactor,
        places: Mapping[str, int],
        retry_wait: float,
        deadlines: PackDeadlines,
    ) -> None:
        self._service = service
        self._deadlines = deadlines
        self._stamps = Stamps(paths.service(service))
        self._logs = paths.logs / "install"
        self._journal = journal
        self._progress = progress
        self._redact = redact
        self._slots = {lane: asyncio.Semaphore(count) for lane, count in places.items()}
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._retry_wait = retry_wait
        self._ended = 0
        self._total = 0
        self._outcomes: list[StepOutcome] = []

    async def all(self, steps: Sequence[Step]) -> tuple[StepOutcome, ...]:
        """Do the steps, each when those it needs are done."""
        self._total = len(steps)
        ended = {step.id: asyncio.Event() for step in steps}
        status: dict[str, StepStatus] = {}

        async def one(step: Step) -> None:
            here = [need for need in (*step.needs, *step.after) if need in ended]
            for need in here:
                await ended[need].wait()
            good = (StepStatus.DONE, StepStatus.SKIPPED)
            blocked = any(status[need] not in good for need in here)
            outcome = await self._one(step, blocked=blocked)
            self._outcomes.append(outcome)
            status[step.id] = outcome.status
            self._deadlines.ended(step)
            self._ended += 1
            ended[step.id].set()

        self._deadlines.begin()
        async with asyncio.TaskGroup() as group:
            for step in steps:
                group.create_task(one(step), name=f"install {self._service} {step.id}")
        return tuple(self._outcomes)

    def _outcome(
        self,
        step: Step,
        status: StepStatus,
        seconds: float = 0.0,
        error: LifecycleError | None = None,
    ) -> StepOutcome:
        return StepOutcome(
            service=self._service,
            step=step.id,
            subject=step.subject,
            status=status,
            required=step.required,
            seconds=seconds,
            error=error,
        )

    def _say(self, step: Step, detail: str) -> None:
        self._progress.step(step.id, detail, done=self._ended, total=self._total)

    def _tries(self, step: Step) -> Tries:
        return Tries(
            step=step,
            log=self._logs / self._service / f"{file_name(step.id)}.log",
            folders=(self._stamps.folder, self._logs),
            journal=self._journal,
            redact=self._redact,
            say=lambda line: self._say(step, line),
            wait=self._retry_wait,
        )

    async def _one(self, step: Step, *, blocked: bool) -> StepOutcome:
        if blocked:
            self._say(step, f"{LEFT_OUT}a step that it needs failed")
            return self._outcome(step, StepStatus.BLOCKED)
        if self._stamps.done(step):
            self._progress.finished(step.id, seconds=0.0, skipped=True)
            return self._outcome(step, StepStatus.SKIPPED)
        tries, began = self._tries(step), time.monotonic()
        async with AsyncExitStack() as turn:
            try:
                async with asyncio.timeout_at(self._deadlines.until(step)):
                    if step.exclusive:
                        await turn.enter_async_context(self._locks[step.exclusive])
                    await turn.enter_async_context(self._slots.get(step.lane, self._slots[""]))
                    began = time.monotonic()
                    error = await self._stamped(tries)
            except TimeoutError:
                error = await self._given_up(tries)
            seconds = time.monotonic() - began
        if error is None:
            self._progress.finished(step.id, seconds=seconds)
            return self._outcome(step, StepStatus.DONE, seconds)
        error.where = error.where or f"{self._service}: {step.summary}"
        self._say(step, f"{FAILED}{error.summary}")
        return self._outcome(step, StepStatus.FAILED, seconds, error)

    async def _stamped(self, tries: Tries) -> LifecycleError | None:
        """Do a step, and write down that it was done."""
        step = tries.step
        try:
            self._journal.write("begin", step=step.id)
            self._stamps.remove(step.id)
            error = await tries.run()
            if error is None:
                self._stamps.write(step)
            self._journal.write("end", step=step.id, ok=error is None)
        except OSError as problem:  # writing the journal or the stamp: the step is done again
            return tries.described(problem)
        return error

    async def _given_up(self, tries: Tries) -> LifecycleError:
        """A pack is waited for no longer: what was under way has been ended, and is put right."""
        error = PackTimeout(
            pack=tries.step.subject,
            step=tries.step.summary,
            limit=self._deadlines.limit,
            log=tries.log,
            context=(tries.doing,) if tries.doing else (),
        )
        await tries.repair(error)
        try:
            self._journal.write("end", step=tries.step.id, ok=False)
        except OSError as problem:
            return tries.described(problem)
        return error
