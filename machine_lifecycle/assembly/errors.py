"""Errors of putting a machine together."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import attrs

from machine_lifecycle.errors import ConfigurationError, LifecycleError, Remedy

__all__ = ["MachineAlreadyRunning", "MachineStoppedEarly", "MappingUnreadable", "NoQueue"]


@attrs.define(kw_only=True, slots=False, eq=False)
class NoQueue(ConfigurationError):
    """The machine runs real services, but no Redis is set to bring jobs to them."""

    code: ClassVar[str] = "no-queue"

    workers: str

    @property
    def summary(self) -> str:
        """What is missing for what."""
        return f"WORKERS={self.workers} needs a queue, and HUB_REDIS_URL is not set"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """Join a fleet, or be an island on purpose."""
        return (
            Remedy("Join your fleet", "export HUB_REDIS_URL=redis://:PASSWORD@HOST:6379"),
            Remedy("Or run an island with a queue of its own", "export REDIS=embedded"),
        )


@attrs.define(kw_only=True, slots=False, eq=False)
class MachineAlreadyRunning(ConfigurationError):
    """Another orchestrator runs this machine already."""

    code: ClassVar[str] = "machine-already-running"

    workspace: Path
    pid: int = 0

    @property
    def summary(self) -> str:
        """Which workspace, which process."""
        who = f" by process {self.pid}" if self.pid else ""
        return f"the machine in {self.workspace} is run already{who}"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """Look at it, stop it, or be another machine."""
        return (
            Remedy("Look at it", "machine-lifecycle status"),
            Remedy("Stop it", "machine-lifecycle stop"),
            Remedy("Or be another machine", "export WORKSPACE_PATH=/another/folder"),
        )


@attrs.define(kw_only=True, slots=False, eq=False)
class MachineStoppedEarly(LifecycleError):
    """The machine was stopped before it was ready."""

    code: ClassVar[str] = "machine-stopped-early"
    recoverable: ClassVar[bool] = False
    exit_code: ClassVar[int] = 0

    reason: str = ""

    @property
    def summary(self) -> str:
        """Why it was stopped."""
        return f"stopped before it was ready{f': {self.reason}' if self.reason else ''}"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """Boot it again."""
        return (Remedy("Boot it again", "machine-lifecycle boot"),)


@attrs.define(kw_only=True, slots=False, eq=False)
class MappingUnreadable(ConfigurationError):
    """The service mapping that the settings name can't be read."""

    code: ClassVar[str] = "mapping-unreadable"

    path: Path
    reason: str

    @property
    def summary(self) -> str:
        """Which file, and why."""
        return f"can't read the service mapping {self.path}: {self.reason}"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """Look, or use the one in the package."""
        return (
            Remedy("Look at the file", f"ls -l {self.path}"),
            Remedy("Or use the mapping in the package", "unset SERVICE_MAPPING_PATH"),
        )
