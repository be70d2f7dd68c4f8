"""The orchestrator's view of its workers: what each said last, and what each must be told.

No sockets here: the server hands over what it hears, and gets lines to send.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import attrs

from machine_lifecycle.control.errors import ControlMessageUnusable
from machine_lifecycle.control.messages import text_of
from machine_lifecycle.model.status import WorkerStatus

__all__ = ["LOST", "Links", "Session"]

LOST = "lost"
"""Outcome of a job whose worker went away; the queue's lease decides what becomes of it."""

_STATUSES = frozenset({"idle", "busy", "paused", "draining"})


def _nothing(*_: Any) -> None:
    """For callers that don't listen."""


@attrs.define(eq=False)
class Session:
    """One stream of one worker.

    Attributes:
        send: Sends one line; never blocks, and is harmless on a stream that broke.
    """

    worker_id: str
    process: str
    pid: int
    send: Callable[[dict[str, Any]], None]


class Links:
    """All workers of the machine. Fulfils ``model.ports.WorkerLinks``.

    Args:
        on_connected: Told a process's name and whether its worker is connected to its service and
            registered in Redis, whenever that changes.
        on_job_taken: Told worker and job, once per job, though a worker repeats itself after a
            break.
        on_job_done: Told worker, job and outcome: ``completed``, ``failed``, ``cancelled``,
            ``released`` or ``lost``.
        on_trouble: Told worker and the wire form of an error that it met.
        on_change: Called after anything changed.
        wall: The clock, in seconds since 1970.
    """

    def __init__(
        self,
        *,
        on_connected: Callable[[str, bool], None] = _nothing,
        on_job_taken: Callable[[str, str], None] = _nothing,
        on_job_done: Callable[[str, str, str], None] = _nothing,
        on_trouble: Callable[[str, Mapping[str, Any]], None] = _nothing,
        on_change: Callable[[], None] = _nothing,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._on_connected = on_connected
        self._on_job_taken = on_job_taken
        self._on_job_done = on_job_done
        self._on_trouble = on_trouble
        self._on_change = on_change
        self._wall = wall
        self._sessions: dict[str, Session] = {}
        self._workers: dict[str, WorkerStatus] = {}
        self._going: dict[str, bool] = {}
        self._draining = False
        self._waiting: dict[asyncio.Future[None], frozenset[str]] = {}

    # What the machine asks and orders

    def expect(
        self,
        worker_id: str,
        *,
        process: str,
        type: str,  # noqa: A002 - the status's own word
        capabilities: tuple[str, ...] = (),
        gpu: int | None = None,
    ) -> None:
        """Know a worker before it says hello: it is listed as ``starting``. Called for each worker
        of the plan; what is known of one from before stays.
        """
        known = self._workers.get(worker_id)
        status = known or WorkerStatus(id=worker_id, process=process, type=type, status="starting")
        self._workers[worker_id] = attrs.evolve(
            status, process=process, type=type, capabilities=capabilities, gpu=gpu
        )
        self._on_change()

    def forget(self, worker_id: str) -> None:
        """A worker is no longer of the plan."""
        if worker_id not in self._sessions and self._workers.pop(worker_id, None) is not None:
            self._on_change()

    def statuses(self) -> tuple[WorkerStatus, ...]:
        """Every worker that is expected or has said hello, in order of appearance."""
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

    def tell(self, process: str, do: str, **fields: Any) -> bool:
        """Tell a process's worker something; whether there was one to tell."""
        found = [session for session in self._sessions.values() if session.process == process]
        for session in found:
            session.send({"do": do, **fields})
        return bool(found)

    def go(self, process: str) -> None:
        """Its service is ready. Kept for a worker that says hello later."""
        self._going[process] = True
        self.tell(process, "go")

    def pause(self, process: str) -> None:
        """Its service went down. Kept likewise."""
        self._going[process] = False
        self.tell(process, "pause")

    async def drain(self) -> None:
        """Tell every worker to take no further job; those that come later too."""
        self._draining = True
        self._tell_all("drain")

    async def undrain(self) -> None:
        """Take the drain back."""
        self._draining = False
        self._tell_all("undrain")

    async def release(self) -> None:
        """Tell every worker to hand back what it runs, without using up an attempt."""
        self._tell_all("release")

    def _tell_all(self, do: str) -> None:
        for session in tuple(self._sessions.values()):
            session.send({"do": do})

    # What the server hears

    def attach(self, hello: dict[str, Any], send: Callable[[dict[str, Any]], None]) -> Session:
        """A worker said hello. A second hello of one worker replaces the first.

        Raises:
            ControlMessageUnusable: The hello lacks a field.
        """
        pid = hello.get("pid")
        if not isinstance(pid, int) or isinstance(pid, bool):
            raise ControlMessageUnusable(reason="'pid' must be a number")
        session = Session(text_of(hello, "worker_id"), text_of(hello, "process"), pid, send)
        self._sessions[session.worker_id] = session
        known = self._workers.get(session.worker_id)
        status = known or WorkerStatus(
            id=session.worker_id, process=session.process, type="", status="standby"
        )
        fresh = attrs.evolve(status, process=session.process, status="standby", trouble="")
        self._store(fresh)
        if self._draining:
            send({"do": "drain"})
        if (going := self._going.get(session.process)) is not None:
            send({"do": "go" if going else "pause"})
        return session

    def hear(self, session: Session, message: dict[str, Any]) -> None:
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
        }
        word = text_of(message, "say")
        if word not in says:
            raise ControlMessageUnusable(reason=f"no worker says {word!r}")
        if self._sessions.get(session.worker_id) is session:
            says[word](self._workers[session.worker_id], message)

    def detach(self, session: Session) -> None:
        """A worker's stream ended."""
        if self._sessions.get(session.worker_id) is not session:
            return  # it came back by another stream already
        del self._sessions[session.worker_id]
        worker = self._workers[session.worker_id]
        job = worker.current_job_id
        self._store(attrs.evolve(worker, status="gone", connected=False, current_job_id=""))
        if job:
            self._on_job_done(worker.id, job, LOST)

    def _store(self, worker: WorkerStatus) -> None:
        before = self._workers.get(worker.id)
        self._workers[worker.id] = attrs.evolve(worker, last_activity=self._wall())
        if worker.connected != (before is not None and before.connected):
            self._on_connected(worker.process, worker.connected)
            here = self.connected()
            for future, wanted in self._waiting.items():
                if wanted <= here and not future.done():
                    future.set_result(None)
        self._on_change()

    def _standby(self, worker: WorkerStatus, _message: dict[str, Any]) -> None:
        self._store(attrs.evolve(worker, status="standby"))

    def _connected(self, worker: WorkerStatus, _message: dict[str, Any]) -> None:
        # A worker that runs a job stays busy when it repeats after a break that it is connected.
        status = "busy" if worker.current_job_id else "idle"
        self._store(attrs.evolve(worker, status=status, connected=True, trouble=""))

    def _disconnected(self, worker: WorkerStatus, message: dict[str, Any]) -> None:
        reason = text_of(message, "reason", default="")
        self._store(attrs.evolve(worker, status="standby", connected=False, trouble=reason))

    def _job_taken(self, worker: WorkerStatus, message: dict[str, Any]) -> None:
        job = text_of(message, "job_id")
        if worker.current_job_id == job:
            return
        self._store(attrs.evolve(worker, status="busy", current_job_id=job))
        self._on_job_taken(worker.id, job)

    def _job_done(self, worker: WorkerStatus, message: dict[str, Any]) -> None:
        job, outcome = text_of(message, "job_id"), text_of(message, "outcome")
        if worker.current_job_id != job:
            return  # told twice, or counted as lost
        self._store(
            attrs.evolve(
                worker,
                status="idle" if worker.status == "busy" else worker.status,
                current_job_id="",
                jobs_completed=worker.jobs_completed + (outcome == "completed"),
                jobs_failed=worker.jobs_failed + (outcome == "failed"),
            )
        )
        self._on_job_done(worker.id, job, outcome)

    def _status(self, worker: WorkerStatus, message: dict[str, Any]) -> None:
        status = text_of(message, "status")
        if status not in _STATUSES:
            raise ControlMessageUnusable(reason=f"no worker's status is {status!r}")
        self._store(attrs.evolve(worker, status=status))

    def _trouble(self, worker: WorkerStatus, message: dict[str, Any]) -> None:
        error = message.get("error")
        if not isinstance(error, dict):
            raise ControlMessageUnusable(reason="'error' must be an object")
        self._store(attrs.evolve(worker, trouble=str(error.get("summary", ""))))
        self._on_trouble(worker.id, error)
