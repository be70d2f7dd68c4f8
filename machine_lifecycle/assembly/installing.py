"""Installation, loaded only when a service has something to install."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from machine_lifecycle.assembly.pack_floor import Listed, missing_too_much
from machine_lifecycle.config.settings import secret_values
from machine_lifecycle.errors import LifecycleError
from machine_lifecycle.model.hardware import Hardware
from machine_lifecycle.model.installing import InstallContext
from machine_lifecycle.model.paths import Paths
from machine_lifecycle.model.plan import InstallPlan
from machine_lifecycle.model.ports import HardwareProbe, ProgressSink
from machine_lifecycle.model.settings import Settings

if TYPE_CHECKING:
    from machine_lifecycle.installers.base import StepOutcome
    from machine_lifecycle.installers.execute import Executor

__all__ = ["Installation"]

_PARTS = {"clone": "fetch", "packages": "install", "script": "script"}
"""The last word of a pack's step, and what that counts as."""


class Installation:
    """Hands the work to the installers' executor; implements ``model.ports.InstallerRunner``."""

    def __init__(
        self,
        settings: Settings,
        paths: Paths,
        environ: Mapping[str, str],
        probe: HardwareProbe,
    ) -> None:
        self._settings = settings
        self._paths = paths
        self._environ = environ
        self._probe = probe
        self._found = Hardware()
        self._executor: Executor | None = None

    @property
    def failures(self) -> Mapping[str, LifecycleError]:
        """What was left out since its installation failed, by name: node packs, for example."""
        if self._executor is None:
            return {}
        failed = self._executor.failures
        return {one.subject or one.step: one.error for one in failed if one.error is not None}

    def listed(self, service: str) -> Listed:
        """What a service was to get beside itself: node packs. None before Installing."""
        known = [one for one in self._outcomes(service) if one.subject]
        required = frozenset(one.subject for one in known if one.required)
        optional = frozenset(one.subject for one in known) - required
        return Listed(required, optional, self._settings.pack_floor)

    def moved(self, service: str) -> tuple[str, ...]:
        """Packages of a service that are other than they were installed, a line each."""
        if self._executor is None:
            return ()
        from machine_lifecycle.installers.comfyui_settings import comfyui_environment  # noqa: PLC0415 - rarely
        from machine_lifecycle.installers.guarding import moved_since  # noqa: PLC0415 - rarely

        context = InstallContext(service=service, settings=self._settings, paths=self._paths)
        return moved_since(comfyui_environment(context))

    def spent(self) -> dict[str, dict[str, float]]:
        """Seconds of each part that was done for each pack; what was there already is left out."""
        found: dict[str, dict[str, float]] = {}
        for one in self._executor.outcomes if self._executor else ():
            part = _PARTS.get(one.step.rpartition(" ")[2], "")
            if one.subject and part and one.status.value == "done":
                found.setdefault(one.subject, {})[part] = one.seconds
        return found

    def _outcomes(self, service: str) -> tuple[StepOutcome, ...]:
        outcomes = self._executor.outcomes if self._executor else ()
        return tuple(one for one in outcomes if one.service == service)

    async def install(self, plan: InstallPlan, stage: str, progress: ProgressSink) -> int:
        """Do one stage of one service; nothing for a service without an installer.

        Raises:
            PacksMissing: More optional packs failed than may be missing.
        """
        if not plan.installer:
            return 0
        if self._executor is None:
            from machine_lifecycle.installers.execute import Executor  # noqa: PLC0415 - rarely

            self._executor = Executor(
                self._paths,
                settings=self._settings,
                environ=self._environ,
                hardware=lambda: self._found,
                concurrency=self._settings.install_concurrency,
                secrets=tuple(secret_values(self._settings).values()),
            )
        self._found = await self._probe.detect()
        if stage == "base":  # the lock is made first: all further steps are planned from it
            await self._executor.install(plan, "lock", progress)
        done = await self._executor.install(plan, stage, progress)
        if stage == "nodes":
            self._check_floor(plan.service)
        return done

    def _check_floor(self, service: str) -> None:
        failed: dict[str, str] = {}
        for one in self._outcomes(service):
            if one.subject and one.error is not None:
                failed[one.subject] = one.error.summary
            elif one.subject and one.status.value == "blocked":
                failed.setdefault(one.subject, "a step that it needs failed")
        if error := missing_too_much(service, self.listed(service), failed):
            raise error
