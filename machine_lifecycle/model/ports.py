"""The protocols through which rooms see each other. Each says who calls it, when, how often.

Everything here may be called on the machine's event loop only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, Self

import attrs

from machine_lifecycle.errors import LifecycleError, Remedy
from machine_lifecycle.model.hardware import Hardware
from machine_lifecycle.model.installing import Installer, Step
from machine_lifecycle.model.jobs import Job, JobResult, Progress
from machine_lifecycle.model.plan import BootPlan, InstallPlan
from machine_lifecycle.model.processes import ProcessSpec, ProcessStatus
from machine_lifecycle.model.progress import ProgressSink

__all__ = [
    "Check",
    "Clock",
    "Connector",
    "HardwareProbe",
    "Installer",
    "InstallerRunner",
    "MachineRegistry",
    "Planner",
    "Probe",
    "ProgressSink",
    "Step",
    "Supervisor",
    "WorkerLinks",
]


class Clock(Protocol):
    """Time. Fakes of it are the only ones that tests of decisions need."""

    def monotonic(self) -> float:
        """Seconds that never jump."""

    def wall(self) -> float:
        """Seconds since 1970, for people and other machines."""

    async def sleep_until(self, deadline: float) -> None:
        """Return when ``monotonic()`` has reached *deadline*."""


@attrs.frozen(kw_only=True)
class Probe:
    """What a connector found when it looked at its service."""

    healthy: bool
    detail: str = ""
    version: str = ""
    facts: Mapping[str, Any] = attrs.field(factory=dict)


class Connector(Protocol):
    """Drives one service instance. An async context manager: entered once per worker process,
    left when the worker ends. Only one ``run`` is under way at a time unless the class says more.
    """

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *exc: object) -> None: ...

    async def probe(self) -> Probe:
        """Look whether the service can do jobs. Called before each registration and by health
        checks; never raises for a service that is merely down.
        """

    async def run(self, job: Job, progress: Callable[[Progress], None]) -> JobResult:
        """Do one job. Raises a ``LifecycleError`` if it can't be done; cancelling it leaves the
        service without the job where the service allows.
        """

    async def cancel(self, job_id: str) -> bool:
        """Make the service stop a job that ``run`` is doing. False if it was not there."""

    async def capabilities(self) -> Mapping[str, Any]:
        """What the running service proved it can do (models, nodes), for the registration."""


class InstallerRunner(Protocol):
    """Runs installation steps."""

    async def install(self, plan: InstallPlan, stage: str, progress: ProgressSink) -> int:
        """Do the steps of one stage that are not done yet; the number done. Raises a
        ``LifecycleError`` with all failures.
        """

    @property
    def failures(self) -> Mapping[str, LifecycleError]:
        """What was left out since its installation failed and nothing essential needs it."""


class HardwareProbe(Protocol):
    """Looks at the machine."""

    async def detect(self) -> Hardware:
        """Called in Starting, once per attempt."""


class Planner(Protocol):
    """Makes the boot plan."""

    async def prepare(self, progress: ProgressSink) -> None:
        """Bring what the plan is made from and is not here yet: the worker bundle."""

    def plan(self, hardware: Hardware) -> BootPlan:
        """Pure but for reading the mapping file and what installed services say of themselves, so
        it is called before the installation and after it. Raises a ``ConfigurationError``.
        """


class Supervisor(Protocol):
    """Keeps processes running. ``supervisor.Supervisor`` is the real one."""

    async def launch(self, specs: Sequence[ProcessSpec]) -> None:
        """Spawn every process that may start now, and the others as what they need gets ready.
        Returns when the first wave is spawned. Raises if a program can't be started. Processes
        of an earlier orchestrator that match are adopted instead of spawned.
        """

    async def recover(self, specs: Sequence[ProcessSpec]) -> tuple[str, ...]:
        """Look at what an earlier orchestrator left: processes that match one of *specs* are
        adopted, all others of its journal are ended. Called once the plan is made; the names of
        adopted ones. Processes of role ``support`` are left alone. Raises if a stranger has a
        port that one of *specs* needs.
        """

    async def wait_ready(self, names: Sequence[str], progress: ProgressSink) -> None:
        """Return when all are ready; raise the moment one of them is given up."""

    async def stop_all(self, budget: float, *, support: bool = False) -> None:
        """End every process in one wave, workers before services, within *budget* seconds; nothing
        that was spawned is left. Safe to call at any time, twice too, and when nothing runs.
        Processes of role ``support`` (the embedded Valkey) live on unless *support* says so.
        """

    def kill_all(self) -> None:
        """End every process tree at once, without asking."""

    def statuses(self) -> tuple[ProcessStatus, ...]:
        """Every process, in the order of the plan."""


class WorkerLinks(Protocol):
    """The two-way links to our worker processes."""

    def connected(self) -> frozenset[str]:
        """Ids of workers that are connected to their service and registered in Redis."""

    async def drain(self) -> None:
        """Tell every worker to take no further job."""

    async def release(self) -> None:
        """Tell every worker to hand back what it runs, without using up an attempt."""


@attrs.frozen(kw_only=True)
class Check:
    """One verification in HealthCheck.

    Attributes:
        detail: What was found, in words.
        remedies: What to do about it, where it did not pass.
    """

    name: str
    ok: bool
    seconds: float
    detail: str = ""
    remedies: tuple[Remedy, ...] = ()


class MachineRegistry(Protocol):
    """The machine in Redis."""

    async def register(self, plan: BootPlan) -> None:
        """Claim the machine's id. Raises if another living machine holds it."""

    async def publish(self, update_type: str) -> None:
        """Say how the machine is, now."""

    async def verify(self, plan: BootPlan) -> tuple[Check, ...]:
        """Check that machine and workers are registered, as a reader would see it."""

    async def deregister(self) -> None:
        """Say ``shutdown`` and remove what was registered."""
