"""What people and probes may ask of the machine, over the control socket and the health pages."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Protocol

import attrs

from machine_lifecycle.assembly.fleet import Fleet
from machine_lifecycle.assembly.report import Reporter
from machine_lifecycle.lifecycle.hooks import EventBus
from machine_lifecycle.model.figures import Figures
from machine_lifecycle.model.hardware import GpuSource
from machine_lifecycle.model.settings import Settings
from machine_lifecycle.model.status import StatusReport
from machine_lifecycle.supervisor.core import Supervisor
from machine_lifecycle.supervisor.logs import follow as tail_and_follow
from machine_lifecycle.supervisor.logs import tail
from machine_lifecycle.supervisor.usage import figures
from machine_lifecycle.system.nvml import use_by_process

__all__ = ["Commands", "Reloaded", "Steered"]


@attrs.frozen(kw_only=True)
class Reloaded:
    """What a reload did: names of processes, and of settings.

    Attributes:
        added: Processes that were started.
        changed: Those that were started anew.
        removed: Those that were ended.
        same: Those that were left alone.
        later: Settings that are other than they were and count from the next start of the machine.
    """

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    same: tuple[str, ...] = ()
    later: tuple[str, ...] = ()


class Steered(Protocol):
    """The machine, as far as commands steer it."""

    restart_requested: bool

    def request_stop(self, reason: str, *, signal: str = "") -> None:
        """Begin to stop."""

    async def drain(self) -> None:
        """Take no further job."""

    async def undrain(self) -> None:
        """Take jobs again."""

    async def reload(self, settings: Settings | None = None) -> Reloaded:
        """Change what runs to what the settings say now."""


@attrs.define(kw_only=True, eq=False)
class Commands:
    """Implements ``control.commands.ControlCommands`` and ``health.source.HealthSource``."""

    reporter: Reporter
    supervisor: Supervisor
    bus: EventBus
    fleet: Fleet
    machine: Callable[[], Steered]

    def report(self) -> StatusReport:
        """How the machine is now."""
        return self.reporter.report()

    async def figures(self) -> Mapping[int, Figures]:
        """Use per process, measured now."""
        report = self.reporter.report()  # here: what it reads changes on the event loop
        pids = [status.pid for status in report.processes if status.pid]
        real = report.hardware.source in (GpuSource.NVML, GpuSource.NVIDIA_SMI)
        return await asyncio.to_thread(lambda: figures(pids, use_by_process() if real else None))

    async def tail(self, name: str, lines: int) -> list[str]:
        """The last lines of a process's log; none for the orchestrator itself."""
        path = self.supervisor.log_paths().get(name)
        return list(await asyncio.to_thread(tail, path, lines)) if path else []

    async def logs(
        self, names: Sequence[str], lines: int, *, since: float | None, follow: bool
    ) -> AsyncIterator[tuple[float, str, str]]:
        """The last lines of several logs, or those since a time, and what is written later."""
        known = self.supervisor.log_paths()
        wanted = {name: known[name] for name in names if name in known}
        found = tail_and_follow(wanted, lines=lines, since=since, forever=follow)
        async with contextlib.aclosing(found) as all_lines:
            async for line in all_lines:
                yield line.at, line.name, line.data.decode(errors="replace")

    async def events(self) -> AsyncIterator[Mapping[str, Any]]:
        """Every event from now on, in its wire form."""
        subscription = self.bus.subscribe()
        try:
            async for event in subscription:
                yield event.to_wire()
        finally:
            self.bus.unsubscribe(subscription)

    async def restart_process(self, name: str) -> None:
        """Start one process anew."""
        await self.supervisor.restart(name)

    async def stop_process(self, name: str) -> None:
        """Stop one process; it stays stopped."""
        await self.supervisor.stop(name)

    async def start_process(self, name: str) -> None:
        """Start one that was stopped."""
        await self.supervisor.start(name)

    def signal_process(self, name: str, number: int) -> None:
        """Send a signal to one process itself."""
        self.supervisor.signal(name, number)

    async def reload(self) -> Mapping[str, Any]:
        """Read the settings anew and change what runs accordingly."""
        return attrs.asdict(await self.machine().reload())

    async def restart_machine(self) -> None:
        """Stop in good order; the command line then boots anew."""
        machine = self.machine()
        machine.restart_requested = True
        machine.request_stop("asked to restart")

    def shutdown(self) -> None:
        """Stop in good order."""
        self.machine().request_stop("asked over the control socket")

    async def drain(self) -> None:
        """Take no further job."""
        await self.machine().drain()

    async def undrain(self) -> None:
        """Take jobs again."""
        await self.machine().undrain()

    async def publish_now(self) -> None:
        """Publish the status to Redis, now."""
        await self.fleet.publish("event_driven")
