"""Installation, loaded only when a service has something to install."""

from __future__ import annotations

from collections.abc import Mapping

from machine_lifecycle.model.paths import Paths
from machine_lifecycle.model.plan import InstallPlan
from machine_lifecycle.model.ports import InstallerRunner, ProgressSink
from machine_lifecycle.model.settings import Settings

__all__ = ["Installation"]


class Installation:
    """Hands the work to the installers' executor; implements ``model.ports.InstallerRunner``."""

    def __init__(self, settings: Settings, paths: Paths, environ: Mapping[str, str]) -> None:
        self._settings = settings
        self._paths = paths
        self._environ = environ
        self._executor: InstallerRunner | None = None

    async def install(self, plan: InstallPlan, stage: str, progress: ProgressSink) -> int:
        """Do one stage of one service; nothing for a service without an installer."""
        if not plan.installer:
            return 0
        if self._executor is None:
            from machine_lifecycle.installers.execute import Executor  # noqa: PLC0415 - rarely

            self._executor = Executor(self._paths)
        return await self._executor.install(plan, stage, progress)
