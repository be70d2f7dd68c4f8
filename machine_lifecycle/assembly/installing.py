"""Installation, loaded only when a service has something to install."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from machine_lifecycle.config.settings import secret_values
from machine_lifecycle.errors import LifecycleError
from machine_lifecycle.model.hardware import Hardware
from machine_lifecycle.model.paths import Paths
from machine_lifecycle.model.plan import InstallPlan
from machine_lifecycle.model.ports import HardwareProbe, ProgressSink
from machine_lifecycle.model.settings import Settings

if TYPE_CHECKING:
    from machine_lifecycle.installers.execute import Executor

__all__ = ["Installation"]


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

    def listed(self, service: str) -> frozenset[str]:
        """Names of what a service was to get beside itself: node packs. None before Installing."""
        outcomes = self._executor.outcomes if self._executor else ()
        return frozenset(one.subject for one in outcomes if one.service == service and one.subject)

    async def install(self, plan: InstallPlan, stage: str, progress: ProgressSink) -> int:
        """Do one stage of one service; nothing for a service without an installer."""
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
        if stage == "base":  # what is installed is settled before, and all else planned from it
            await self._executor.install(plan, "lock", progress)
        return await self._executor.install(plan, stage, progress)
