"""What is done about a service that runs and is of no use: a restart, or it is taken out.

A service is of no use when it is silent for ever, and when its GPU can't be used any more. How
far a fault of the GPU reaches is told by ``model.gpu_signs``: what spoils the process alone is
mended by a restart, once; what comes back, and what is of the GPU, takes its services out until
somebody says ``machine-lifecycle restart``. Logs are not read for it: failures of jobs tell, the
last lines of a process that ended by itself, and the driver.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from enum import Enum
from typing import TYPE_CHECKING, Any

import attrs

from machine_lifecycle.assembly.errors import GpuUnusable
from machine_lifecycle.errors import LifecycleError
from machine_lifecycle.lifecycle.core import Lifecycle
from machine_lifecycle.model.gpu_signs import Scope, Sign, sign_in, sign_of_xid
from machine_lifecycle.model.plan import WorkerPlan
from machine_lifecycle.model.processes import ProcessState, ProcessStatus, Role
from machine_lifecycle.model.services import Instance
from machine_lifecycle.states.names import MachineState
from machine_lifecycle.system.nvml import XidEvent

if TYPE_CHECKING:
    from machine_lifecycle.control.links import Links
    from machine_lifecycle.supervisor.core import Supervisor

__all__ = ["Mending", "Verdict", "judge"]

_HUNG = "service-hung"
"""Code of the error with which a connector says that its service is silent for ever."""
_GPU = ("gpu-fault", "gpu-broken")
"""Codes of the errors with which it says that the GPU can't be used."""
_WINDOW = 600.0
"""Seconds within which a fault has come back; as long as restarts of a process count."""
_UP = (MachineState.READY, MachineState.PROCESSING)
_log = logging.getLogger("machine_lifecycle.machine")


class Verdict(Enum):
    """What a fault calls for."""

    RESTART = "restart"
    TAKE_OUT = "take-out"


@attrs.frozen
class Fault:
    """A fault that spoiled a process.

    Attributes:
        at: Seconds on a monotonic clock.
        job: Id of the job that met it; empty if none ran.
    """

    at: float
    job: str = ""


def judge(sign: Sign, earlier: tuple[Fault, ...], fault: Fault) -> Verdict:
    """What a fault calls for.

    A job that makes the same fault again proves nothing against the GPU: its graph may ask for an
    element that is not there, and the queue gives such a job up.

    Args:
        sign: What was said.
        earlier: Faults of the same service.
        fault: This one.
    """
    if sign.scope is Scope.GPU:
        return Verdict.TAKE_OUT
    other = [
        one
        for one in earlier
        if fault.at - one.at < _WINDOW and (not fault.job or one.job != fault.job)
    ]
    return Verdict.TAKE_OUT if other else Verdict.RESTART


@attrs.define(kw_only=True, eq=False)
class Mending:
    """Hears of troubles of workers and of ends of processes; restarts services or takes them out.

    ``supervisor`` and ``links`` are set once they are made.
    """

    lifecycle: Lifecycle
    hold: Callable[[str], None]
    """Keeps a process's worker from taking a job meanwhile."""
    supervisor: Supervisor = attrs.field(init=False)
    links: Links = attrs.field(init=False)
    _faults: dict[str, tuple[Fault, ...]] = attrs.field(init=False, factory=dict)
    _tasks: set[asyncio.Task[None]] = attrs.field(init=False, factory=set)

    def worker_in_trouble(self, worker_id: str, error: Mapping[str, Any]) -> None:
        """A worker met an error."""
        worker = self._worker(worker_id)
        if worker is None or self.lifecycle.state not in _UP:
            return
        # One that runs elsewhere is not ours to restart: then there are no instances.
        if error.get("code") == _HUNG:
            for name in worker.instances:
                self._restart(name, worker.process)
        elif error.get("code") in _GPU:
            sign = sign_in([str(error.get("summary", ""))])
            if sign is not None:
                self._met(sign, worker, str(error.get("where", "")))

    def process_ended(self, status: ProcessStatus) -> None:
        """A process ended by itself and is to be started anew: see whether that can help."""
        if status.state is not ProcessState.BACKOFF or status.role is not Role.SERVICE:
            return
        instance = self.lifecycle.record.instance(status.name)
        sign = sign_in(status.last_exit.tail) if status.last_exit else None
        if instance is None or instance.gpu is None or sign is None:
            return
        job = next(
            (w.current_job_id for w in self.links.statuses() if self._drives(w.id, status)), ""
        )
        if self._judged(sign, status.name, job) is Verdict.TAKE_OUT:
            self._take_out(sign, instance)

    def gpu_told(self, event: XidEvent) -> None:
        """The driver tells of a critical error. What spoils a process alone is left to that one:
        it meets the error itself, and whose process it was the driver doesn't say.
        """
        sign = sign_of_xid(event.number)
        words = sign.words if sign else f"Xid {event.number}"
        _log.error("the driver tells of %s: %s", event.uuids[0], words)
        plan = self.lifecycle.record.plan
        if plan is None or sign is None or sign.scope is not Scope.GPU:
            return
        out = {s.name for s in self.supervisor.statuses() if s.state is ProcessState.FATAL}
        hit = {
            instance.gpu.index: instance
            for instance in plan.instances
            if instance.gpu is not None
            and instance.gpu.uuid in event.uuids
            and instance.id not in out
        }
        for instance in hit.values():
            self._take_out(sign, instance)

    def _met(self, sign: Sign, worker: WorkerPlan, job: str) -> None:
        for name in worker.instances:
            instance = self.lifecycle.record.instance(name)
            if instance is None or instance.gpu is None:
                continue
            if self._judged(sign, name, job) is Verdict.TAKE_OUT:
                self._take_out(sign, instance)
            else:
                self._restart(name, worker.process)

    def _judged(self, sign: Sign, name: str, job: str) -> Verdict:
        fault = Fault(at=asyncio.get_running_loop().time(), job=job)
        earlier = self._faults.get(name, ())
        verdict = judge(sign, earlier, fault)
        fresh = tuple(one for one in earlier if fault.at - one.at < _WINDOW)
        # Once it is taken out, its faults are forgotten: back in service, it starts with none.
        self._faults[name] = () if verdict is Verdict.TAKE_OUT else (*fresh, fault)
        return verdict

    def _take_out(self, sign: Sign, instance: Instance) -> None:
        """Take it out, and with a GPU that must be reset all that runs on it."""
        plan = self.lifecycle.record.plan
        gpu = instance.gpu
        if plan is None or gpu is None:
            return
        whole = sign.scope is Scope.GPU
        for other in plan.instances:
            on_it = other.gpu is not None and other.gpu.index == gpu.index
            if other.id == instance.id or (whole and on_it):
                for worker in plan.workers:
                    if other.id in worker.instances:
                        self.hold(worker.process)
                error = GpuUnusable(
                    process=other.id,
                    index=gpu.index,
                    name=gpu.name,
                    uuid=gpu.uuid,
                    sign=sign.words,
                    source=sign.source,
                    lasting=whole,
                    where=other.id,
                )
                self._begin(self.supervisor.take_out(other.id, error), f"take out {other.id}")

    def _restart(self, name: str, process: str) -> None:
        self.hold(process)
        _log.warning("%s runs, but is of no use any more: it is restarted", name)
        self._begin(self.supervisor.restart(name), f"restart {name}")

    def _begin(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(self._see(work, name), name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    @staticmethod
    async def _see(work: Coroutine[Any, Any, None], name: str) -> None:
        try:
            await work
        except LifecycleError as error:
            _log.error("%s: %s", name, error.summary)

    def _worker(self, worker_id: str) -> WorkerPlan | None:
        plan = self.lifecycle.record.plan
        return next((one for one in plan.workers if one.id == worker_id), None) if plan else None

    def _drives(self, worker_id: str, status: ProcessStatus) -> bool:
        worker = self._worker(worker_id)
        return worker is not None and status.name in worker.instances
