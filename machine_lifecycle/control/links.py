"""The orchestrator's link to its workers: who speaks now, and what each must be told.

No sockets here: the server hands over what it hears, and gets lines to send.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import attrs

from machine_lifecycle.control.errors import ControlMessageUnusable
from machine_lifecycle.control.messages import text_of
from machine_lifecycle.control.workers import LOST, Listeners, WorkerBoard
from machine_lifecycle.model.packs import Run
from machine_lifecycle.model.status import WorkerStatus
from machine_lifecycle.model.wire import to_json_value

__all__ = ["LOST", "Links", "Session"]


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
        listeners: Told what workers say.
        wall: The clock, in seconds since 1970.
    """

    def __init__(
        self, listeners: Listeners | None = None, *, wall: Callable[[], float] = time.time
    ) -> None:
        self._board = WorkerBoard(listeners or Listeners(), wall)
        self._sessions: dict[str, Session] = {}
        self._pids: dict[str, int] = {}
        self._orders: dict[str, dict[str, Any]] = {}
        self.draining: bool = False
        """Whether workers are told to take no further job."""
        self._held = False

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
        self._board.expect(
            worker_id, process=process, type=type, capabilities=capabilities, gpu=gpu
        )

    def forget(self, worker_id: str) -> None:
        """A worker is no longer of the plan."""
        if worker_id not in self._sessions:
            self._board.forget(worker_id)
            self._pids.pop(worker_id, None)

    def pid(self, worker_id: str) -> int | None:
        """The process that said hello as this worker last, which may have ended; or ``None``."""
        return self._pids.get(worker_id)

    def statuses(self) -> tuple[WorkerStatus, ...]:
        """Every worker that is expected or has said hello, in order of appearance."""
        return self._board.statuses()

    def connected(self) -> frozenset[str]:
        """Ids of workers that are connected to their service and registered in Redis."""
        return self._board.connected()

    async def wait_connected(self, worker_ids: Iterable[str]) -> None:
        """Return when all these workers are connected."""
        await self._board.wait_connected(worker_ids)

    def tell(self, process: str, do: str, **fields: Any) -> bool:
        """Tell a process's worker something; whether there was one to tell."""
        found = [session for session in self._sessions.values() if session.process == process]
        for session in found:
            session.send({"do": do, **fields})
        return bool(found)

    def go(self, process: str, runs: Sequence[Run] = ()) -> None:
        """Its services are ready: these runs of them. Kept for a worker that says hello later."""
        told = {"runs": to_json_value(runs)} if runs else {}
        self._orders[process] = {"do": "go", **told}
        self.tell(process, "go", **told)

    def pause(self, process: str, reason: str) -> None:
        """Its service went down, and why. Kept likewise."""
        self._orders[process] = {"do": "pause", "reason": reason}
        self.tell(process, "pause", reason=reason)

    async def drain(self) -> None:
        """Tell every worker to take no further job; those that come later too."""
        self.draining = True
        self._tell_all("drain")

    async def undrain(self) -> None:
        """Take the drain back."""
        self.draining = False
        self._tell_all("undrain")

    def hold(self, held: bool) -> None:  # noqa: FBT001 - one fact
        """Tell every worker to take no further job for the time being, or that it may again."""
        self._held = held
        self._tell_all("hold" if held else "unhold")

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
        self._pids[session.worker_id] = pid
        self._board.hello(session.worker_id, session.process)
        if self.draining:
            send({"do": "drain"})
        if self._held:
            send({"do": "hold"})
        if order := self._orders.get(session.process):
            send(order)
        return session

    def hear(self, session: Session, message: dict[str, Any]) -> None:
        """A worker said something.

        Raises:
            ControlMessageUnusable: It is not of the protocol.
        """
        # What an earlier stream of a worker still brings is past.
        if self._sessions.get(session.worker_id) is session:
            self._board.hear(session.worker_id, message)

    def detach(self, session: Session) -> None:
        """A worker's stream ended."""
        if self._sessions.get(session.worker_id) is session:  # else it came back by another
            del self._sessions[session.worker_id]
            self._board.lost(session.worker_id)
