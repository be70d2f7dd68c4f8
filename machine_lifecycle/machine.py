"""``Machine``: what others import. The command line is one of its users."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Mapping
from typing import TypeVar

from machine_lifecycle.assembly.commands import Reloaded
from machine_lifecycle.assembly.errors import MachineStoppedEarly
from machine_lifecycle.assembly.parts import Parts, assemble
from machine_lifecycle.assembly.reloading import reload
from machine_lifecycle.errors import LifecycleError
from machine_lifecycle.lifecycle import events
from machine_lifecycle.lifecycle.gates import DEADLINE, Gate, GatePoint
from machine_lifecycle.lifecycle.hooks import Observer
from machine_lifecycle.model.paths import Paths
from machine_lifecycle.model.settings import Settings
from machine_lifecycle.model.status import ConditionKind, StatusReport
from machine_lifecycle.states import stimuli
from machine_lifecycle.states.names import MachineState

__all__ = ["Machine"]

E = TypeVar("E", bound=events.Event)
_CLOSED = "the machine is closed"


class Machine:
    """One machine: boot it, listen to it, stop it.

    Example::

        async with Machine.open(Settings(workers="simulation:1")) as machine:
            machine.on(Changed, lambda event: print(event.source, event.target))
            await machine.boot()
            await machine.wait()
    """

    def __init__(self, parts: Parts, reread: Callable[[], Settings] | None = None) -> None:
        self._parts = parts
        self._reread = reread
        self._life: asyncio.Task[int] | None = None
        self._closed = False
        self.restart_requested = False

    @classmethod
    @contextlib.asynccontextmanager
    async def open(
        cls,
        settings: Settings | None = None,
        *,
        environ: Mapping[str, str] | None = None,
        guest: bool = True,
        reread: Callable[[], Settings] | None = None,
    ) -> AsyncIterator[Machine]:
        """Open a machine: its folders, lock, pages and control socket; stop it on leaving.

        Args:
            settings: What it is to be; all defaults where ``None``.
            environ: The environment its processes inherit; this process's own where ``None``.
            guest: Whether this process belongs to somebody else, and so must not become the reaper
                of orphans. The command line says ``False``.
            reread: Reads the settings anew, for ``reload``.

        Raises:
            LifecycleError: The machine runs already, a folder can't be used, a port is taken.
        """
        inherited = dict(os.environ if environ is None else environ)  # noqa: TID251 - see Args
        async with assemble(settings or Settings(), inherited, guest=guest) as parts:
            machine = cls(parts, reread)
            parts.bind(machine)
            try:
                yield machine
            finally:
                await machine.stop(_CLOSED)
                machine._closed = True

    @property
    def id(self) -> str:
        """The machine's id in the fleet."""
        return self._parts.machine_id

    @property
    def paths(self) -> Paths:
        """Where it keeps its files."""
        return self._parts.paths

    @property
    def queue_url(self) -> str:
        """Where its queue is, with the password: for ``open_job_queue``. Empty before the boot."""
        return self._parts.queue.url

    @property
    def state(self) -> MachineState:
        """Where in its life it is."""
        return self._parts.lifecycle.state

    def status(self) -> StatusReport:
        """Everything that is shown of it, now."""
        return self._parts.reporter.report()

    def on(self, kinds: type[E], observer: Observer[E]) -> Callable[[], None]:
        """Call *observer* with every event of these kinds, in order; the answer ends that.

        It may be a coroutine function. One that is slow loses the oldest events and is told so
        (``EventsDropped``); one that raises is logged and switched off. It can't harm the boot.
        """
        return self._parts.bus.on(kinds, observer)

    def gate(
        self, point: GatePoint, gate: Gate, *, name: str = "", deadline: float = DEADLINE
    ) -> Callable[[], None]:
        """Let *gate* hold the machine back before it installs, launches, is ready, or stops.

        It is called with a ``Passage``; it returns, or raises ``GateRefused``. The answer of this
        method takes it away again.

        Args:
            point: Before what.
            gate: A function or coroutine function.
            name: For people; the function's own where it is empty.
            deadline: Seconds it has at each attempt.
        """
        return self._parts.gates.add(point, gate, name=name, deadline=deadline)

    async def events(self, kinds: type[events.Event] = events.Event) -> AsyncIterator[events.Event]:
        """Every event of these kinds from now on, until the machine has stopped."""
        subscription = self._parts.bus.subscribe(kinds)
        try:
            async for event in subscription:
                yield event
        finally:
            self._parts.bus.unsubscribe(subscription)

    async def boot(self) -> None:
        """Boot; returns at Ready, at once if it is ready already.

        Raises:
            LifecycleError: No attempt is left, or none could help: the failure with its remedies.
                ``MachineStoppedEarly`` if it was told to stop before it was ready, or is closed.
        """
        if self._closed or (self._life is not None and self._life.done()):
            raise MachineStoppedEarly(reason=_CLOSED if self._closed else "its life is over")
        if self.state in {MachineState.READY, MachineState.PROCESSING}:
            return
        news = self._parts.bus.subscribe()
        try:
            if self._life is None:
                self._life = asyncio.create_task(self._parts.runner.run(), name="machine life")
            async for event in news:
                match event:
                    case events.MachineReady():
                        return
                    case events.MachineFailed(retry_in=None):
                        raise self._failure()
                    case events.MachineStopped(reason=reason):
                        raise MachineStoppedEarly(reason=reason)
        finally:
            self._parts.bus.unsubscribe(news)
        raise MachineStoppedEarly

    def _failure(self) -> LifecycleError:
        return self._parts.lifecycle.record.failure or MachineStoppedEarly()

    async def wait(self) -> int:
        """Return when the machine has stopped; the exit code of its life."""
        return 0 if self._life is None else await asyncio.shield(self._life)

    def request_stop(self, reason: str, *, signal: str = "") -> None:
        """Begin to stop; the second time forces. Returns at once."""
        self._parts.runner.post(stimuli.StopRequested(reason=reason, signal=signal))

    async def stop(self, reason: str = "stop was called") -> int:
        """Stop within the budget of the settings; the exit code of its life."""
        living = self._life is not None and not self._life.done()
        if living and self.state is not MachineState.STOPPING:
            self.request_stop(reason)
        return await self.wait()

    async def start_process(self, name: str) -> None:
        """Start a process that is stopped, has ended or was given up.

        Raises:
            UnknownProcess: There is none of that name.
        """
        await self._parts.supervisor.start(name)

    async def stop_process(self, name: str) -> None:
        """Stop a process, and keep it stopped. Raises ``UnknownProcess``."""
        await self._parts.supervisor.stop(name)

    async def restart_process(self, name: str) -> None:
        """Stop a process if it runs, and start it. Raises ``UnknownProcess``."""
        await self._parts.supervisor.restart(name)

    def signal_process(self, name: str, number: int) -> None:
        """Send a signal to a process itself. Raises ``UnknownProcess``, ``ProcessNotRunning``."""
        self._parts.supervisor.signal(name, number)

    async def reload(self, settings: Settings | None = None) -> Reloaded:
        """Change what runs to what other settings say; what is the same is left alone.

        Args:
            settings: The new ones; read anew by the function that ``open`` got where ``None``.

        Raises:
            ReloadRefused: The machine is not up, or something must be installed first.
            LifecycleError: The settings are wrong; nothing is changed then.
        """
        fresh = settings or (self._reread() if self._reread else self._parts.settings)
        return await reload(self._parts, fresh)

    async def drain(self) -> None:
        """Take no further job; running ones end. ``/ready`` says 503 from here on."""
        raised = stimuli.ConditionRaised(kind=ConditionKind.DRAINING, reason="asked to drain")
        self._parts.runner.post(raised)
        await self._parts.links.drain()

    async def undrain(self) -> None:
        """Take jobs again, also after a drain that was ordered by Redis.

        Raises:
            RedisUnreachable: There is such an order, and it can't be taken back.
        """
        await self._parts.fleet.undrain()
        self._parts.runner.post(stimuli.ConditionCleared(kind=ConditionKind.DRAINING))
        await self._parts.links.undrain()
