"""Facts that reach the lifecycle. Past tense, frozen; each says which boot attempt it belongs to.

A fact of an older attempt is recorded and dropped: an installation that ends after its boot was
given up must not move the next one.
"""

from __future__ import annotations

from typing import ClassVar

import attrs

from machine_lifecycle.errors import LifecycleError
from machine_lifecycle.model.plan import BootPlan
from machine_lifecycle.model.ports import Check
from machine_lifecycle.states.names import MachineState, Trigger

__all__ = [
    "AllStopped",
    "BaseInstalled",
    "CleanedUp",
    "ConditionCleared",
    "ConditionRaised",
    "Faulted",
    "JobDone",
    "JobTaken",
    "MachineHealthy",
    "NodesInstalled",
    "Opened",
    "PlanMade",
    "PlanReplaced",
    "ProcessesLaunched",
    "ProcessesPrepared",
    "Progressed",
    "RetryDue",
    "ServicesOnline",
    "Stimulus",
    "StopRequested",
    "TimeUp",
    "WorkersConnected",
]


@attrs.frozen(kw_only=True)
class Stimulus:
    """The root of all facts.

    Attributes:
        attempt: Boot attempt it belongs to, from 1; ``None`` for facts of any attempt.
        at: Monotonic seconds when the runner took it in; set by the runner.
        trigger: What it fires in the table; ``None`` for facts that move no state.
    """

    trigger: ClassVar[Trigger | None] = None

    attempt: int | None = None
    at: float = 0.0

    @property
    def words(self) -> str:
        """The fact in a few words, for the story."""
        return type(self).__name__


@attrs.frozen(kw_only=True)
class Opened(Stimulus):
    """The machine was opened; its life begins."""


@attrs.frozen(kw_only=True)
class PlanMade(Stimulus):
    """It is decided what will run."""

    trigger: ClassVar[Trigger | None] = Trigger.PLAN_MADE
    plan: BootPlan


@attrs.frozen(kw_only=True)
class PlanReplaced(Stimulus):
    """Other settings were read while the machine is up: this is what runs from now on."""

    plan: BootPlan


@attrs.frozen(kw_only=True)
class BaseInstalled(Stimulus):
    """Every service is on disk."""

    trigger: ClassVar[Trigger | None] = Trigger.BASE_INSTALLED


@attrs.frozen(kw_only=True)
class NodesInstalled(Stimulus):
    """Node packs are on disk."""

    trigger: ClassVar[Trigger | None] = Trigger.NODES_INSTALLED


@attrs.frozen(kw_only=True)
class ProcessesPrepared(Stimulus):
    """The process manifest is written.

    Attributes:
        plan: As it is now that everything is installed; ``None``: as it was.
    """

    trigger: ClassVar[Trigger | None] = Trigger.PROCESSES_PREPARED
    plan: BootPlan | None = None


@attrs.frozen(kw_only=True)
class ProcessesLaunched(Stimulus):
    """Every process is spawned."""

    trigger: ClassVar[Trigger | None] = Trigger.PROCESSES_LAUNCHED


@attrs.frozen(kw_only=True)
class ServicesOnline(Stimulus):
    """Every service answers."""

    trigger: ClassVar[Trigger | None] = Trigger.SERVICES_ONLINE


@attrs.frozen(kw_only=True)
class WorkersConnected(Stimulus):
    """Every worker is connected to its service and to the queue."""

    trigger: ClassVar[Trigger | None] = Trigger.WORKERS_CONNECTED


@attrs.frozen(kw_only=True)
class MachineHealthy(Stimulus):
    """Every check passed."""

    trigger: ClassVar[Trigger | None] = Trigger.MACHINE_HEALTHY
    checks: tuple[Check, ...] = ()


@attrs.frozen(kw_only=True)
class Faulted(Stimulus):
    """Something essential went wrong.

    Attributes:
        during: The state whose activity raised it, or ``None`` if it came from outside.
    """

    trigger: ClassVar[Trigger | None] = Trigger.FAULTED
    error: LifecycleError
    during: MachineState | None = None

    @property
    def words(self) -> str:
        """The code of the error."""
        return f"Faulted({self.error.code})"


@attrs.frozen(kw_only=True)
class StopRequested(Stimulus):
    """Somebody wants the machine to stop.

    Attributes:
        signal: Name of the signal that said so, or empty.
    """

    trigger: ClassVar[Trigger | None] = Trigger.STOP_REQUESTED
    reason: str
    signal: str = ""

    @property
    def words(self) -> str:
        """Why."""
        return f"StopRequested({self.reason})"


@attrs.frozen(kw_only=True)
class RetryDue(Stimulus):
    """The wait before the next attempt is over."""

    trigger: ClassVar[Trigger | None] = Trigger.RETRY


@attrs.frozen(kw_only=True)
class CleanedUp(Stimulus):
    """Nothing of the failed attempt runs any more."""

    trigger: ClassVar[Trigger | None] = Trigger.CLEANED_UP


@attrs.frozen(kw_only=True)
class JobTaken(Stimulus):
    """A worker took a job."""

    trigger: ClassVar[Trigger | None] = Trigger.JOB_TAKEN
    job_id: str
    worker_id: str

    @property
    def words(self) -> str:
        """Which job."""
        return f"JobTaken({self.job_id})"


@attrs.frozen(kw_only=True)
class JobDone(Stimulus):
    """A worker is done with a job.

    Attributes:
        outcome: ``completed``, ``failed``, ``retrying`` (it failed, and will be run again),
            ``cancelled``, ``released``, ``lost`` with its worker.
    """

    trigger: ClassVar[Trigger | None] = Trigger.JOB_DONE
    job_id: str
    worker_id: str
    outcome: str

    @property
    def words(self) -> str:
        """Which job, and how it ended."""
        return f"JobDone({self.job_id}, {self.outcome})"


@attrs.frozen(kw_only=True)
class AllStopped(Stimulus):
    """Nothing of the machine runs any more."""

    trigger: ClassVar[Trigger | None] = Trigger.ALL_STOPPED


@attrs.frozen(kw_only=True)
class Progressed(Stimulus):
    """Something moved within the state. Not kept in the story."""


@attrs.frozen(kw_only=True)
class TimeUp(Stimulus):
    """A time that the lifecycle asked to be woken at has come.

    Attributes:
        what: ``stall``, ``cap`` or ``stop``.
        state: The state that the limit belongs to.
        entered: When that visit of the state began: a limit of an earlier visit means nothing.
        waiting: What the state waits for, filled in by the runner.
    """

    what: str
    state: MachineState
    entered: float
    waiting: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """Which limit."""
        return f"TimeUp({self.what} of {self.state.value})"


@attrs.frozen(kw_only=True)
class ConditionRaised(Stimulus):
    """A condition beside the state holds now."""

    kind: str
    reason: str

    @property
    def words(self) -> str:
        """Which condition, and why."""
        return f"ConditionRaised({self.kind}: {self.reason})"


@attrs.frozen(kw_only=True)
class ConditionCleared(Stimulus):
    """A condition beside the state holds no longer."""

    kind: str

    @property
    def words(self) -> str:
        """Which condition."""
        return f"ConditionCleared({self.kind})"
