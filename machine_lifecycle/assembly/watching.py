"""What happens to processes and workers, told to the lifecycle. Lives as long as the machine."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING

import attrs

from machine_lifecycle.assembly.packs import CAUSE
from machine_lifecycle.errors import LifecycleError
from machine_lifecycle.lifecycle import events
from machine_lifecycle.lifecycle.core import Lifecycle
from machine_lifecycle.lifecycle.hooks import EventBus
from machine_lifecycle.model.gpu_signs import sign_in
from machine_lifecycle.model.plan import BootPlan
from machine_lifecycle.model.processes import ProcessSpec, ProcessState, ProcessStatus, Role
from machine_lifecycle.model.status import ConditionKind, WorkerStatus
from machine_lifecycle.states import stimuli
from machine_lifecycle.states.names import MachineState

if TYPE_CHECKING:
    from machine_lifecycle.control.links import Links
    from machine_lifecycle.supervisor.core import Supervisor

__all__ = ["Watching"]

_ENDED = (ProcessState.BACKOFF, ProcessState.EXITED, ProcessState.FATAL)
_COMING = (ProcessState.WAITING, ProcessState.STARTING, ProcessState.BACKOFF)
_UP = (MachineState.READY, MachineState.PROCESSING)
_LOGS = "logs"
_log = logging.getLogger("machine_lifecycle.machine")


@attrs.define(kw_only=True, eq=False)
class Watching:
    """Callbacks of supervisor and links; also the jobs that run (``states.context.JobsWatch``).

    ``supervisor``, ``links``, ``post``, ``worker_died`` and ``process_ended`` are set once their
    owners are made.
    """

    lifecycle: Lifecycle
    bus: EventBus
    floor: int
    post: Callable[[stimuli.Stimulus], None] = attrs.field(init=False)
    supervisor: Supervisor = attrs.field(init=False)
    links: Links = attrs.field(init=False)
    worker_died: Callable[[str, int | None], None] = attrs.field(init=False)
    process_ended: Callable[[ProcessStatus], None] = attrs.field(init=False)
    _idle: asyncio.Event = attrs.field(init=False, factory=asyncio.Event)
    _causes: dict[str, dict[str, str]] = attrs.field(init=False, factory=dict)
    _running: set[tuple[str, str]] = attrs.field(init=False, factory=set)

    def __attrs_post_init__(self) -> None:
        self._idle.set()

    # The supervisor tells

    def process_changed(self, status: ProcessStatus) -> None:
        """A process came into another state."""
        self.bus.emit(events.ProcessChanged(attempt=self.lifecycle.attempt, process=status))
        if status.role is Role.WORKER and status.state in _ENDED:
            for worker in self.links.statuses():
                if worker.process == status.name:
                    self.worker_died(worker.id, self.links.pid(worker.id))
        if status.state in _ENDED:
            self.process_ended(status)
        self.settle()

    def process_given_up(self, spec: ProcessSpec, error: LifecycleError) -> None:
        """A process is out for good: the machine fails, or goes on degraded.

        While it boots, whoever waits for the process hears of it from the supervisor.
        """
        if self.lifecycle.state not in _UP:
            return
        if spec.essential or self.healthy() < max(1, self.floor):
            self.post(stimuli.Faulted(attempt=self.lifecycle.attempt, error=error))
        else:
            words = f"{spec.name} is out: {error.summary}"
            self.raise_condition(ConditionKind.DEGRADED, spec.name, words)

    def needs_changed(self, process: str, ready: bool) -> None:  # noqa: FBT001 - one fact
        """What a worker needs got ready, or was lost."""
        if ready:
            self.links.go(process, self.supervisor.runs(process))
        else:
            plan = self.lifecycle.record.plan
            specs = {spec.name: spec for spec in plan.processes} if plan else {}
            needs = specs[process].needs if process in specs else ()
            self.links.pause(process, _down(needs, self.supervisor.statuses()))

    def logs_in_trouble(self, words: str) -> None:
        """Logs can't be kept as they should, a full disk mostly; empty words: they can again."""
        if words:
            _log.error("logs: %s", words)
            self.raise_condition(ConditionKind.DEGRADED, _LOGS, words)
        else:
            self.drop_cause(ConditionKind.DEGRADED, _LOGS)

    def healthy(self) -> int:
        """Workers in service: neither they nor their services are given up."""
        plan = self.lifecycle.record.plan
        out = self._out()
        processes = plan.processes if plan else ()
        workers = [spec for spec in processes if spec.role is Role.WORKER]
        return sum(1 for spec in workers if not out.intersection((spec.name, *spec.needs)))

    def _out(self) -> set[str]:
        fatal = ProcessState.FATAL
        return {s.name for s in self.supervisor.statuses() if s.state is fatal}

    def _coming(self) -> bool:
        """Whether a process is on its way to readiness."""
        return any(s.state in _COMING and not s.ready for s in self.supervisor.statuses())

    def settle(self) -> None:
        """Nothing is out or on its way, and every worker is connected: processes degrade the
        machine no longer.
        """
        if self.lifecycle.state not in _UP or self._out():
            return
        self.clear_condition(ConditionKind.RESUMING)
        if self._all_connected() and not self._coming():
            self.clear_condition(ConditionKind.DEGRADED, keep=("packs", CAUSE, _LOGS))

    def _all_connected(self) -> bool:
        plan = self.lifecycle.record.plan
        return plan is not None and {w.id for w in plan.workers} <= self.links.connected()

    # The workers tell

    def worker_connected(self, process: str, connected: bool) -> None:  # noqa: FBT001 - one fact
        """A worker is registered and its service answered it, or no longer so."""
        if any(status.name == process for status in self.supervisor.statuses()):
            self.supervisor.link_ready(process, connected)
        for worker in self.links.statuses():
            if worker.process == process:
                self._tell_worker(worker)
        self.settle()

    def worker_troubled(self, worker: WorkerStatus) -> None:
        """A worker met an error that it had not met before, or has nothing to complain of now."""
        if worker.trouble:
            _log.warning("%s: %s", worker.id, worker.trouble)
        self._tell_worker(worker)

    def _tell_worker(self, worker: WorkerStatus) -> None:
        self.bus.emit(events.WorkerChanged(attempt=self.lifecycle.attempt, worker=worker))

    def job_taken(self, worker_id: str, job_id: str) -> None:
        """A worker took a job."""
        self._running.add((job_id, worker_id))
        self._idle.clear()
        self.post(stimuli.JobTaken(job_id=job_id, worker_id=worker_id))

    def job_done(self, worker_id: str, job_id: str, outcome: str) -> None:
        """A worker is done with a job."""
        self._running.discard((job_id, worker_id))
        if not self._running:
            self._idle.set()
        self.post(stimuli.JobDone(job_id=job_id, worker_id=worker_id, outcome=outcome))

    def worker_warms(self, process: str, how: str, words: str) -> None:
        """A worker warms a service up, or (*how* is ``cold``) could not and will try again. It is
        not connected until it could.
        """
        if any(status.name == process for status in self.supervisor.statuses()):
            self.supervisor.link_tells(process, words)
        if how == "cold" and self.lifecycle.state in _UP:  # dropped as soon as all are connected
            self.raise_condition(ConditionKind.DEGRADED, process, words)

    # Jobs, for a stop that lets them end

    def running(self) -> int:
        """Jobs that run now."""
        return len(self._running)

    async def none_running(self) -> None:
        """Return once no job runs."""
        await self._idle.wait()

    # Shared

    def raise_condition(self, kind: str, cause: str, reason: str) -> None:
        """Raise a condition beside the state; several causes of one are told together."""
        causes = self._causes.setdefault(kind, {})
        causes[cause] = reason
        self.post(stimuli.ConditionRaised(kind=kind, reason="; ".join(causes.values())))

    def clear_condition(self, kind: str, *, keep: tuple[str, ...] = ()) -> None:
        """Drop the causes of a condition, but for those to keep."""
        self._keep(kind, lambda cause: cause in keep)

    def drop_cause(self, kind: str, cause: str) -> None:
        """Drop one cause of a condition."""
        self._keep(kind, lambda other: other != cause)

    def _keep(self, kind: str, holds: Callable[[str], bool]) -> None:
        causes = self._causes.get(kind, {})
        left = {cause: reason for cause, reason in causes.items() if holds(cause)}
        if left == causes:
            return
        self._causes[kind] = left
        if left:
            self.post(stimuli.ConditionRaised(kind=kind, reason="; ".join(left.values())))
        else:
            self.post(stimuli.ConditionCleared(kind=kind))

    def begin_anew(self) -> None:
        """A new attempt begins: what was wrong with the last one is past."""
        self.clear_condition(ConditionKind.DEGRADED)
        self.clear_condition(ConditionKind.RESUMING)

    def expect(self, plan: BootPlan) -> None:
        """List the plan's workers before they say hello; count adopted ones that have said it.

        A living worker finds its way back to us within milliseconds, before its process is adopted.
        """
        for worker in plan.workers:
            self.links.expect(
                worker.id,
                process=worker.process,
                type=worker.type,
                capabilities=tuple(worker.capabilities),
                gpu=worker.gpu,
            )
        known = {status.name for status in self.supervisor.statuses()}
        for status in self.links.statuses():
            if status.connected and status.process in known:
                self.supervisor.link_ready(status.process, True)  # noqa: FBT003 - one fact


def _down(needs: Collection[str], statuses: Iterable[ProcessStatus]) -> str:
    """Which service of a worker went down and how, for the story of the job that it was doing: as
    far as the way it ended tells. Its own words stay in its log.
    """
    told = []
    for status in statuses:
        if status.name in needs and status.state in _ENDED and status.last_exit:
            sign = sign_in(status.last_exit.tail)
            why = f", {sign.words}" if sign else ""
            told.append(f"{status.name}: {status.last_exit.reason}{why}")
    return f"its service went down ({'; '.join(told)})" if told else "its service went down"
