"""Runs the steps that installers plan: in order, some at once, each only if it is not done yet."""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import chain
from pathlib import Path
from urllib.parse import quote

from machine_lifecycle.errors import LifecycleError, Problems
from machine_lifecycle.installers.base import (
    Stamps,
    StepOutcome,
    StepStatus,
    check_steps,
    file_name,
    load_installer,
)
from machine_lifecycle.installers.command import CommandRunner, Journal, Redactor
from machine_lifecycle.installers.errors import DiskFull, StepCrashed, StepTimeout
from machine_lifecycle.installers.sharing import held
from machine_lifecycle.installers.space import fullest, ran_out
from machine_lifecycle.model.hardware import Hardware
from machine_lifecycle.model.installing import (
    DOWNLOADS,
    InstallContext,
    Installer,
    Step,
    StepContext,
)
from machine_lifecycle.model.paths import Paths
from machine_lifecycle.model.plan import InstallPlan
from machine_lifecycle.model.progress import FAILED, LEFT_OUT, ProgressSink
from machine_lifecycle.model.settings import Settings

__all__ = ["Executor"]

_WAIT_MAX = 8.0
"""Longest wait between two tries, in seconds."""
_AFTER_MAX = 120.0
"""Longest that a server may ask to wait, in seconds; one that wants more is not asked again."""


_SECRET_NAME = re.compile(r"TOKEN|SECRET|PASSWORD|CREDENTIAL|API_?KEY|ACCESS_KEY|_REDIS_URL")


class Executor:
    """The ``InstallerRunner``: plans the steps of a service and does those that are not done.

    Safe to run again after any end, kill -9 included: a step is stamped only after its success,
    and programs that a killed run left running are ended first. One at a time per workspace.

    Args:
        paths: The machine's folders.
        settings: Handed to the installers.
        environ: Handed to the installers.
        hardware: Asked when steps are planned.
        concurrency: Steps that run at once; downloads beside them, as many as the settings say.
        resolve: Gives the installer of a plan's ``installer`` text.
        secrets: Values that are masked in logs and reports, beside those of variables whose
            names say that they are secret.
        retry_wait: Seconds before the second try of a step, at most; doubles each time.
    """

    def __init__(
        self,
        paths: Paths,
        *,
        settings: Settings | None = None,
        environ: Mapping[str, str] | None = None,
        hardware: Callable[[], Hardware] = Hardware,
        concurrency: int = 8,
        resolve: Callable[[str], Installer] = load_installer,
        secrets: Collection[str] = (),
        retry_wait: float = 0.5,
    ) -> None:
        self._paths = paths
        self._settings = settings or Settings()
        self._environ = dict(environ or {})
        self._hardware = hardware
        self._places = {"": concurrency, DOWNLOADS: self._settings.models_concurrency}
        self._resolve = resolve
        named = (value for name, value in self._environ.items() if _SECRET_NAME.search(name))
        self._redact = Redactor((*secrets, *named))
        self._retry_wait = retry_wait
        self._outcomes: dict[tuple[str, str], tuple[StepOutcome, ...]] = {}

    @property
    def outcomes(self) -> tuple[StepOutcome, ...]:
        """How every step ended that was looked at, newest run of each stage only, in order of
        their ends.
        """
        return tuple(chain.from_iterable(self._outcomes.values()))

    @property
    def failures(self) -> tuple[StepOutcome, ...]:
        """Optional steps that failed: what makes the machine degraded."""
        return tuple(
            outcome
            for outcome in self.outcomes
            if outcome.status is StepStatus.FAILED and not outcome.required
        )

    def steps(self, plan: InstallPlan) -> tuple[tuple[Step, bool], ...]:
        """Every step of a service, and whether it is done. Runs nothing."""
        stamps = Stamps(self._paths.service(plan.service))
        return tuple((step, stamps.done(step)) for step in self._plan(plan))

    def _plan(self, plan: InstallPlan) -> tuple[Step, ...]:
        if not plan.installer:
            return ()
        context = InstallContext(
            service=plan.service,
            options=plan.options,
            settings=self._settings,
            environ=self._environ,
            hardware=self._hardware(),
            paths=self._paths,
        )
        steps = self._resolve(plan.installer).plan(context)
        check_steps(plan.installer, steps)
        return steps

    async def install(self, plan: InstallPlan, stage: str, progress: ProgressSink) -> int:
        """Do the steps of one stage that are not done yet; the number done.

        Failures of optional steps are kept in ``failures``.

        Raises:
            Problems: Every required step that failed.
            InstallerBroken: The installer can't be loaded, or its steps make no sense.
            DiskFull: There is no room in the runtime folder.
        """
        journal = self._journal(plan, progress)
        if self._paths.shared is None:
            return await self._install(plan, stage, progress, journal)
        # Nothing may be planned before: another machine may be about to do all of it.
        lock = self._paths.services / f".{quote(plan.service, safe='')}.machine-lifecycle.lock"

        def report(line: str) -> None:
            progress.step(plan.service, line)

        async with held(lock, report, what=f"installs {plan.service} here") as descriptor:
            journal.inherited = (descriptor,)
            return await self._install(plan, stage, progress, journal)

    def _journal(self, plan: InstallPlan, progress: ProgressSink) -> Journal:
        """A new one. What an earlier end left running is ended: it may hold a lock."""
        journal = Journal(self._paths.runtime / f"install-{quote(plan.service, safe='')}.jsonl")
        for step_id in journal.unfinished():
            progress.step(step_id, "was cut short by an earlier end; done again")
        try:
            journal.start()
        except OSError as error:
            if not ran_out(error):
                raise
            folder, free = fullest((self._paths.runtime,))
            raise DiskFull(folder=folder, free=free) from error
        return journal

    async def _install(
        self, plan: InstallPlan, stage: str, progress: ProgressSink, journal: Journal
    ) -> int:
        steps = [step for step in self._plan(plan) if step.stage == stage]
        # What came of an earlier list, or an earlier lock, is past.
        self._outcomes.pop((plan.service, stage), None)
        if not steps:
            return 0
        run = _StageRun(
            service=plan.service,
            paths=self._paths,
            journal=journal,
            progress=progress,
            redact=self._redact,
            places=self._places,
            retry_wait=self._retry_wait,
        )
        outcomes = await run.all(steps)
        self._outcomes[plan.service, stage] = outcomes
        found = (one.error for one in outcomes if one.error is not None and one.required)
        # A step that tells several problems at once tells each as its own.
        errors = tuple(part for error in found for part in error.parts())
        if errors:
            raise Problems(subject=f"installation of {plan.service} ({stage})", errors=errors)
        makes = {step.id for step in steps if step.makes}
        done = (one for one in outcomes if one.status is StepStatus.DONE)
        return sum(one.step in makes for one in done)


class _StageRun:
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
    ) -> None:
        self._service = service
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
            self._ended += 1
            ended[step.id].set()

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

    async def _one(self, step: Step, *, blocked: bool) -> StepOutcome:
        if blocked:
            self._say(step, f"{LEFT_OUT}a step that it needs failed")
            return self._outcome(step, StepStatus.BLOCKED)
        if self._stamps.done(step):
            self._progress.finished(step.id, seconds=0.0, skipped=True)
            return self._outcome(step, StepStatus.SKIPPED)
        if not step.exclusive:
            return await self._timed(step)
        async with self._locks[step.exclusive]:
            return await self._timed(step)

    async def _timed(self, step: Step) -> StepOutcome:
        async with self._slots.get(step.lane, self._slots[""]):
            began = time.monotonic()
            try:
                self._journal.write("begin", step=step.id)
                self._stamps.remove(step.id)
                error = await self._tries(step)
                if error is None:
                    self._stamps.write(step)
                self._journal.write("end", step=step.id, ok=error is None)
            except OSError as problem:  # of the journal or the stamp: the step counts as not done
                error = self._described(step, problem)
            seconds = time.monotonic() - began
        if error is None:
            self._progress.finished(step.id, seconds=seconds)
            return self._outcome(step, StepStatus.DONE, seconds)
        error.where = error.where or f"{self._service}: {step.summary}"
        self._say(step, f"{FAILED}{error.summary}")
        return self._outcome(step, StepStatus.FAILED, seconds, error)

    async def _tries(self, step: Step) -> LifecycleError | None:
        """Run the step until it is done, or the last try failed; the error of that."""
        for left in range(step.retries, -1, -1):
            error = await self._try(step)
            if error is None or not error.recoverable or not left:
                return error
            if error.retry_after > _AFTER_MAX:
                return error
            asked, ceiling = error.retry_after, self._retry_wait * 2.0 ** (step.retries - left)
            # Full jitter, so that many machines that lost one host do not come back as one.
            wait = asked + random.uniform(0, min(_WAIT_MAX, ceiling))  # noqa: S311 - no secret
            by_whom = " (as it was asked)" if asked else ""
            self._say(step, f"tried again in {wait:.1f} s{by_whom} after: {error.summary}")
            await asyncio.sleep(wait)
        return None

    async def _try(self, step: Step) -> LifecycleError | None:
        def report(line: str) -> None:
            self._say(step, line)

        run_command = CommandRunner(
            log=self._logs / self._service / f"{file_name(step.id)}.log",
            journal=self._journal,
            redact=self._redact,
            report=report,
        )
        self._say(step, step.summary)
        try:
            async with asyncio.timeout(step.timeout) as limit:
                await step.run(StepContext(report=report, run_command=run_command))
        except DiskFull as error:
            error.needed = error.needed or step.space
            return error
        except LifecycleError as error:
            return error
        except Exception as error:  # noqa: BLE001 - a stranger's installer; kept as an outcome
            if isinstance(error, TimeoutError) and limit.expired():
                return StepTimeout(step=step.id, limit=step.timeout)
            return self._described(step, error)
        return None

    def _described(self, step: Step, error: Exception) -> LifecycleError:
        """An error that is no description of a problem, described."""
        if ran_out(error):
            named = [Path(error.filename)] if isinstance(error, OSError) and error.filename else []
            folder, free = fullest((*named, self._stamps.folder, self._logs))
            return DiskFull(folder=folder, free=free, needed=step.space)
        problem = self._redact(f"{type(error).__name__}: {error}")
        return StepCrashed(step=step.id, problem=problem)
