"""What the machine tells the world. Frozen, numbered, with a wire form that only grows.

The same objects go to Python observers, to JSON lines, to Redis and to the web page.
"""

from __future__ import annotations

from typing import Any, ClassVar

import attrs

from machine_lifecycle.model.packs import Pack, PackTimes
from machine_lifecycle.model.processes import ProcessStatus
from machine_lifecycle.model.status import StateTiming, WorkerStatus
from machine_lifecycle.model.wire import to_json_value
from machine_lifecycle.states.names import MachineState

__all__ = [
    "EVENTS",
    "Changed",
    "ConditionChanged",
    "Event",
    "EventsDropped",
    "JobFinished",
    "JobStarted",
    "MachineFailed",
    "MachineReady",
    "MachineStopped",
    "PacksLoaded",
    "PacksTimed",
    "ProcessChanged",
    "StepFinished",
    "StepProgressed",
    "WorkerChanged",
]


@attrs.frozen(kw_only=True)
class Event:
    """The root of all events.

    Attributes:
        seq: Numbers the events of one machine's life without gaps, from 1.
        at: Wall-clock seconds.
        machine_id: Whose event it is.
        attempt: Boot attempt, from 1.
        kind: The word on the wire.
    """

    kind: ClassVar[str] = "event"

    seq: int = 0
    at: float = 0.0
    machine_id: str = ""
    attempt: int = 1

    def to_wire(self) -> dict[str, Any]:
        """JSON values: ``kind`` and every field by its name."""
        return {"kind": self.kind, **to_json_value(self)}


@attrs.frozen(kw_only=True)
class Changed(Event):
    """The machine went from one state to another.

    Attributes:
        trigger: The fact that moved it.
        why: The reason the table gives.
        seconds: Time spent in the state it left.
    """

    kind: ClassVar[str] = "changed"
    source: MachineState
    target: MachineState
    trigger: str
    why: str
    seconds: float = 0.0


@attrs.frozen(kw_only=True)
class StepProgressed(Event):
    """A step within a state goes on.

    Attributes:
        done: Units done, of
        total: so many; 0 where unknown.
    """

    kind: ClassVar[str] = "step_progressed"
    state: MachineState
    step: str
    detail: str = ""
    done: int = 0
    total: int = 0


@attrs.frozen(kw_only=True)
class StepFinished(Event):
    """A step within a state ended well, or had nothing to do (``skipped``)."""

    kind: ClassVar[str] = "step_finished"
    state: MachineState
    step: str
    seconds: float
    skipped: bool = False


@attrs.frozen(kw_only=True)
class ProcessChanged(Event):
    """A process came into another state."""

    kind: ClassVar[str] = "process_changed"
    process: ProcessStatus


@attrs.frozen(kw_only=True)
class WorkerChanged(Event):
    """A worker says that it is doing something else."""

    kind: ClassVar[str] = "worker_changed"
    worker: WorkerStatus


@attrs.frozen(kw_only=True)
class PacksLoaded(Event):
    """A service was started and says which node packs are in; told again when that is another.

    Attributes:
        instance: Id of the instance; the service's name for one that runs elsewhere.
        packs: Every pack that is known of, also those that failed.
    """

    kind: ClassVar[str] = "packs_loaded"
    instance: str
    packs: tuple[Pack, ...]


@attrs.frozen(kw_only=True)
class PacksTimed(Event):
    """The machine is ready, and this is what each node pack costs a boot.

    Attributes:
        times: By name, as last measured; what got slower since the boot before says so.
    """

    kind: ClassVar[str] = "packs_timed"
    times: tuple[PackTimes, ...]


@attrs.frozen(kw_only=True)
class JobStarted(Event):
    """A worker of this machine took a job."""

    kind: ClassVar[str] = "job_started"
    job_id: str
    worker_id: str


@attrs.frozen(kw_only=True)
class JobFinished(Event):
    """A worker of this machine is done with a job.

    Attributes:
        outcome: ``completed``, ``failed``, ``retrying`` (it failed, and will be run again),
            ``cancelled``, ``released`` (handed back), or ``lost`` with its worker.
    """

    kind: ClassVar[str] = "job_finished"
    job_id: str
    worker_id: str
    outcome: str


@attrs.frozen(kw_only=True)
class ConditionChanged(Event):
    """A condition beside the state holds now, or holds no longer."""

    kind: ClassVar[str] = "condition_changed"
    condition: str
    holds: bool
    reason: str = ""


@attrs.frozen(kw_only=True)
class MachineReady(Event):
    """The machine takes jobs.

    Attributes:
        seconds: From the opening of the machine, or from the last failure, to Ready.
        timings: Each state of this boot.
    """

    kind: ClassVar[str] = "machine_ready"
    seconds: float
    timings: tuple[StateTiming, ...] = ()


@attrs.frozen(kw_only=True)
class MachineFailed(Event):
    """A boot attempt failed, or a machine that was ready did.

    Attributes:
        error: The error in its wire form: code, summary, remedies.
        retry_in: Seconds until the next attempt; ``None`` if there is none.
    """

    kind: ClassVar[str] = "machine_failed"
    error: dict[str, Any]
    retry_in: float | None = None


@attrs.frozen(kw_only=True)
class MachineStopped(Event):
    """The machine's life is over."""

    kind: ClassVar[str] = "machine_stopped"
    exit_code: int
    reason: str = ""


@attrs.frozen(kw_only=True)
class EventsDropped(Event):
    """An observer was too slow: ``count`` events before this one never reached it."""

    kind: ClassVar[str] = "events_dropped"
    count: int


EVENTS: tuple[type[Event], ...] = (
    Changed,
    StepProgressed,
    StepFinished,
    ProcessChanged,
    WorkerChanged,
    PacksLoaded,
    PacksTimed,
    JobStarted,
    JobFinished,
    ConditionChanged,
    MachineReady,
    MachineFailed,
    MachineStopped,
    EventsDropped,
)
