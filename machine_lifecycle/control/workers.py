"""What each worker said last: the part of the link that is about workers, not about streams."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import attrs

from machine_lifecycle.control.errors import ControlMessageUnusable
from machine_lifecycle.control.messages import text_of
from machine_lifecycle.model.packs import Loaded
from machine_lifecycle.model.status import WorkerStatus

__all__ = ["LOST", "Listeners", "WorkerBoard"]

LOST = "lost"
"""Outcome of a job whose worker went away; the queue's lease decides what becomes of it."""

_STATUSES = frozenset({"idle", "busy", "paused", "draining"})


def _unheard(*_: Any) -> None:
    """Stands for a listener where nobody listens."""


@attrs.frozen(kw_only=True)
class Listeners:
    """Who is told what workers say.

    Attributes:
        connected: Told a process's name and whether its worker is connected to its service and
            registered in Redis, whenever that changes.
        job_taken: Told worker and job, once per job, though a worker repeats itself after a break.
        job_done: Told worker, job and outcome: ``completed``, ``failed``, ``retrying``,
            ``cancelled``, ``released`` or ``lost``.
        trouble: Told worker and the wire form of an error that it met; each time that it says so.
        troubled: Told a worker whose trouble is another than before, or over.
        warming: Told a process's name, ``warming`` and how far its worker warms a service up, or
            ``cold`` and why it could not.
        loaded: Told the node packs of the services that a worker is connected to.
        change: Called after anything changed.
    """

    connected: Callable[[str, bool], None] = _unheard
    job_taken: Callable[[str, str], None] = _unheard
    job_done: Callable[[str, str, str], None] = _unheard
    trouble: Callable[[str, Mapping[str, Any]], None] = _unheard
    troubled: Callable[[WorkerStatus], None] = _unheard
    warming: Callable[[str, str, str], None] = _unheard
    loaded: Callable[[tuple[Loaded, ...]], None] = _unheard
    change: Callable[[], None] = _unheard


class WorkerBoard:
    """Every worker that is expected or has said hello, with what it said last."""

    def __init__(self, listeners: Listeners, wall: Callable[[], float] = time.time) -> None:
        self._listeners = listeners
        self._wall = wall
        self._workers: dict[str, WorkerStatus] = {}
        self._jobs: dict[str, dict[str, None]] = {}
        """What each worker runs."""
        self._before: dict[str, dict[str, None]] = {}
        """What it ran before a break, until it has said what it runs now."""
        self._waiting: dict[asyncio.Future[None], frozenset[str]] = {}

    def expect(
        self,
        worker_id: str,
        *,
        process: str,
        type: str,  # noqa: A002 - the status's own word
        capabilities: tuple[str, ...] = (),
        gpu: int | None = None,
    ) -> None:
        """Write down a worker before it says hello; what is known of one from before stays."""
        known = self._workers.get(worker_id)
        if worker_id in self._jobs:
            self._before[worker_id] = self._jobs.pop(worker_id)
        status = known or WorkerStatus(id=worker_id, process=process, type=type, status="starting")
        self._workers[worker_id] = attrs.evolve(
            status, process=process, type=type, capabilities=capabilities, gpu=gpu
        )
        self._listeners.change()

    def forget(self, worker_id: str) -> None:
        """Strike a worker off."""
        if self._workers.pop(worker_id, None) is not None:
            self._listeners.change()

    def statuses(self) -> tuple[WorkerStatus, ...]:
        """All, in order of appearance."""
        return tuple(self._workers.values())

    def connected(self) -> frozenset[str]:
        """Ids of workers that are connected to their service and registered in Redis."""
        return frozenset(worker.id for worker in self._workers.values() if worker.connected)

    async def wait_connected(self, worker_ids: Iterable[str]) -> None:
        """Return when all these workers are connected."""
        wanted = frozenset(worker_ids)
        if wanted <= self.connected():
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[future] = wanted
        try:
            await future
        finally:
            self._waiting.pop(future, None)

    def hello(self, worker_id: str, process: str) -> None:
        """A worker said hello: it stands by until it says more."""
        known = self._workers.get(worker_id)
        if worker_id in self._jobs:
            self._before[worker_id] = self._jobs.pop(worker_id)
        status = known or WorkerStatus(id=worker_id, process=process, type="", status="standby")
        self._store(attrs.evolve(status, process=process, status="standby", trouble=""))

    def hear(self, worker_id: str, message: dict[str, Any]) -> None:
        """A worker said something.

        Raises:
            ControlMessageUnusable: It is not of the protocol.
        """
        says = {
            "standby": self._standby,
            "connected": self._connected,
            "disconnected": self._disconnected,
            "job_taken": self._job_taken,
            "job_done": self._job_done,
            "status": self._status,
            "trouble": self._trouble,
            "warming": self._warming,
            "cold": self._warming,
        }
        word = text_of(message, "say")
        if word not in says:
            raise ControlMessageUnusable(reason=f"no worker says {word!r}")
        says[word](self._workers[worker_id], message)

    def lost(self, worker_id: str) -> None:
        """A worker went away, and what it ran with it."""
        worker = self._workers[worker_id]
        jobs = self._before.pop(worker_id, {}) | self._jobs.pop(worker_id, {})
        self._store(attrs.evolve(worker, status="gone", connected=False, current_job_id=""))
        for job in jobs:
            self._listeners.job_done(worker.id, job, LOST)

    def _store(self, worker: WorkerStatus) -> None:
        before = self._workers.get(worker.id)
        self._workers[worker.id] = attrs.evolve(worker, last_activity=self._wall())
        if worker.connected != (before is not None and before.connected):
            self._listeners.connected(worker.process, worker.connected)
            here = self.connected()
            for future, wanted in self._waiting.items():
                if wanted <= here and not future.done():
                    future.set_result(None)
        elif before is not None and worker.trouble != before.trouble:
            self._listeners.troubled(worker)
        self._listeners.change()

    def _standby(self, worker: WorkerStatus, _message: dict[str, Any]) -> None:
        self._store(attrs.evolve(worker, status="standby"))

    def _connected(self, worker: WorkerStatus, message: dict[str, Any]) -> None:
        try:
            loaded = tuple(Loaded.from_wire(one) for one in message.get("loaded", ()))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ControlMessageUnusable(reason=f"'loaded' can't be read: {error!r}") from error
        self._listeners.loaded(loaded)  # first: what it means is known when the machine is ready
        # A worker that runs a job stays busy when it repeats after a break that it is connected.
        status = "busy" if worker.current_job_id else "idle"
        self._store(attrs.evolve(worker, status=status, connected=True, trouble=""))

    def _disconnected(self, worker: WorkerStatus, message: dict[str, Any]) -> None:
        reason = text_of(message, "reason", default="")
        self._store(attrs.evolve(worker, status="standby", connected=False, trouble=reason))

    def _job_taken(self, worker: WorkerStatus, message: dict[str, Any]) -> None:
        job = text_of(message, "job_id")
        running = self._jobs.setdefault(worker.id, {})
        if job in running:
            return
        running[job] = None
        self._store(attrs.evolve(worker, status="busy", current_job_id=job))
        if job in self._before.get(worker.id, {}):
            return
        self._listeners.job_taken(worker.id, job)

    def _job_done(self, worker: WorkerStatus, message: dict[str, Any]) -> None:
        job, outcome = text_of(message, "job_id"), text_of(message, "outcome")
        running = self._jobs.get(worker.id, {})
        if job not in running:
            return  # said before, or counted as lost when its worker went away
        del running[job]
        self._store(
            attrs.evolve(
                worker,
                status="idle" if worker.status == "busy" and not running else worker.status,
                current_job_id=next(iter(running), ""),
                jobs_completed=worker.jobs_completed + (outcome == "completed"),
                jobs_failed=worker.jobs_failed + (outcome == "failed"),
            )
        )
        self._listeners.job_done(worker.id, job, outcome)

    def _status(self, worker: WorkerStatus, message: dict[str, Any]) -> None:
        status = text_of(message, "status")
        if status not in _STATUSES:
            raise ControlMessageUnusable(reason=f"no worker's status is {status!r}")
        self._store(attrs.evolve(worker, status=status))
        running = self._jobs.get(worker.id, {})
        for job in self._before.pop(worker.id, {}):
            if job not in running:  # it ended while nobody listened
                self._listeners.job_done(worker.id, job, LOST)

    def _warming(self, worker: WorkerStatus, message: dict[str, Any]) -> None:
        self._listeners.warming(worker.process, text_of(message, "say"), text_of(message, "words"))

    def _trouble(self, worker: WorkerStatus, message: dict[str, Any]) -> None:
        error = message.get("error")
        if not isinstance(error, dict):
            raise ControlMessageUnusable(reason="'error' must be an object")
        self._store(attrs.evolve(worker, trouble=str(error.get("summary", ""))))
        self._listeners.trouble(worker.id, error)
