"""Runs the steps that installers plan: in order, some at once, each only if it is not done yet."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from itertools import chain
from urllib.parse import quote

from machine_lifecycle.errors import Problems
from machine_lifecycle.installers.base import (
    Stamps,
    StepOutcome,
    StepStatus,
    check_steps,
    load_installer,
)
from machine_lifecycle.installers.command import Journal, Redactor
from machine_lifecycle.installers.errors import DiskFull
from machine_lifecycle.installers.folder_lock import held
from machine_lifecycle.installers.pack_deadlines import PackDeadlines
from machine_lifecycle.installers.space import fullest, ran_out
from machine_lifecycle.installers.stage_run import StageRun
from machine_lifecycle.model.hardware import Hardware
from machine_lifecycle.model.installing import DOWNLOADS, InstallContext, Installer, Step
from machine_lifecycle.model.paths import Paths
from machine_lifecycle.model.plan import InstallPlan
from machine_lifecycle.model.progress import ProgressSink
from machine_lifecycle.model.redaction import names_secret
from machine_lifecycle.model.settings import Settings

__all__ = ["Executor"]


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
        named = (
            value
            for name, value in self._environ.items()
            if names_secret(name) or name.endswith("_REDIS_URL")
        )
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
        # Planned only once the lock is held: another machine may do all of it meanwhile.
        lock = self._paths.services / f".{quote(plan.service, safe='')}.machine-lifecycle.lock"

        def report(line: str) -> None:
            progress.step(plan.service, line)

        async with held(
            lock, report, what=f"another machine installs {plan.service} here"
        ) as descriptor:
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
        # Outcomes of an earlier run, with another list or lock perhaps, no longer count.
        self._outcomes.pop((plan.service, stage), None)
        if not steps:
            return 0
        run = StageRun(
            service=plan.service,
            paths=self._paths,
            journal=journal,
            progress=progress,
            redact=self._redact,
            places=self._places,
            retry_wait=self._retry_wait,
            deadlines=PackDeadlines(self._settings.packs_timeout if stage == "nodes" else 0.0),
        )
        outcomes = await run.all(steps)
        self._outcomes[plan.service, stage] = outcomes
        found = (one.error for one in outcomes if one.error is not None and one.required)
        # A step that failed with a group of errors has each of them told by itself.
        errors = tuple(part for error in found for part in error.parts())
        if errors:
            raise Problems(subject=f"installation of {plan.service} ({stage})", errors=errors)
        makes = {step.id for step in steps if step.makes}
        done = (one for one in outcomes if one.status is StepStatus.DONE)
        return sum(one.step in makes for one in done)
