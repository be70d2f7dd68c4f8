"""What a state's activity is handed: protocols and values, nothing concrete."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import attrs

from machine_lifecycle.model.paths import Paths
from machine_lifecycle.model.plan import BootPlan
from machine_lifecycle.model.ports import (
    Check,
    Clock,
    HardwareProbe,
    InstallerRunner,
    MachineRegistry,
    Planner,
    ProgressSink,
    Supervisor,
    WorkerLinks,
)
from machine_lifecycle.model.settings import Settings

__all__ = ["Context", "CrashLoop", "Manifest", "QueueHost", "Verifier"]


class QueueHost(Protocol):
    """The queue: a Redis elsewhere, or a Valkey of our own."""

    async def open(self, progress: ProgressSink) -> None:
        """Make it answer. Called in every Starting; does nothing if it answers already."""

    async def close(self) -> None:
        """Let go of it; ends a Valkey of our own. Called once, after deregistration."""


class Verifier(Protocol):
    """Looks at what runs before the machine is called ready."""

    async def verify(self, plan: BootPlan) -> tuple[Check, ...]:
        """One check per service and worker, each with its time."""


class Manifest(Protocol):
    """The process manifest on disk."""

    def write(self, plan: BootPlan) -> None:
        """Write it in one step; readers see the old one or the new one."""


class CrashLoop(Protocol):
    """The lives before this one."""

    async def wait(self, progress: ProgressSink) -> None:
        """Hold this one back if they failed, the longer the more of them."""


@attrs.frozen(kw_only=True)
class Context:
    """Everything that activities may use.

    Attributes:
        plan: The plan of this boot attempt; raises before Starting has made it.
        attempt: Boot attempt, from 1.
        jobs: The jobs that our workers run.
        condition: Raises a condition beside the state: its kind, what causes it, and why.
    """

    settings: Settings
    paths: Paths
    clock: Clock
    attempt: int
    hardware: HardwareProbe
    planner: Planner
    installer: InstallerRunner
    supervisor: Supervisor
    links: WorkerLinks
    registry: MachineRegistry
    queue: QueueHost
    verifier: Verifier
    manifest: Manifest
    progress: ProgressSink
    current_plan: Callable[[], BootPlan | None]
    jobs: JobsWatch
    condition: Callable[[str, str, str], None]
    crash_loop: CrashLoop

    @property
    def plan(self) -> BootPlan:
        """The plan of this boot attempt."""
        plan = self.current_plan()
        if plan is None:
            raise RuntimeError("no plan before Starting has made one")
        return plan


class JobsWatch(Protocol):
    """The jobs that our workers run."""

    def running(self) -> int:
        """How many."""

    async def none_running(self) -> None:
        """Return once there is none."""
