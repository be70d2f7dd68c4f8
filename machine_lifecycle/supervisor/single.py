"""What is asked and told of single processes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from machine_lifecycle.errors import LifecycleError
from machine_lifecycle.model.packs import Run
from machine_lifecycle.model.processes import ProcessSpec
from machine_lifecycle.supervisor.errors import ProcessesLeft, ProcessNotRunning
from machine_lifecycle.supervisor.identity import send
from machine_lifecycle.supervisor.roster import Roster

__all__ = ["SingleProcesses"]


class SingleProcesses:
    """A part of ``Supervisor``: everything that names one process."""

    _roster: Roster
    _waves: int

    async def launch(self, specs: Sequence[ProcessSpec]) -> None:
        """See ``Supervisor``."""
        raise NotImplementedError

    async def restart(self, name: str) -> None:
        """Stop a process if it runs, and start it."""
        wave = self._waves
        await self.stop(name)
        if wave == self._waves:  # else everything was stopped meanwhile
            await self.start(name)

    async def stop(self, name: str) -> None:
        """Stop a process; it stays stopped until it is started or launched again."""
        unit = self._roster.unit(name)
        left = await unit.stop(unit.spec.stop.grace)
        if left:
            raise ProcessesLeft(pids=left)

    async def start(self, name: str) -> None:
        """Start a process that is stopped, has ended, or was given up; its count starts anew."""
        spec = self._roster.unit(name).spec
        await self.launch([spec])

    async def take_out(self, name: str, error: LifecycleError) -> None:
        """Stop a process and give it up for this reason; ``restart`` takes it back into service."""
        wave = self._waves
        unit = self._roster.unit(name)
        await self.stop(name)
        if wave == self._waves and not unit.wanted and self._roster.unit(name) is unit:
            unit.give_up("", error)

    def signal(self, name: str, number: int) -> None:
        """Send a signal to a process itself; what it started hears nothing.

        Raises:
            ProcessNotRunning: It does not run now.
        """
        child = self._roster.unit(name).child
        if child is None or not send(child.identity, number):
            raise ProcessNotRunning(process=name)

    def link_ready(self, process_name: str, ready: bool) -> None:  # noqa: FBT001 - one fact
        """A worker says over its link that it is connected, or no longer is."""
        self._roster.unit(process_name).link(ready=ready)

    def link_tells(self, process_name: str, words: str) -> None:
        """A worker says over its link why it is not connected yet: a sign of life."""
        self._roster.unit(process_name).startup.link_tells(words)

    def may_go(self, process_name: str) -> bool:
        """Whether everything that a process needs is ready."""
        return self._roster.needs_ready(self._roster.unit(process_name))

    def runs(self, process_name: str) -> tuple[Run, ...]:
        """The processes that a process needs, as they run now, and where they log."""
        return self._roster.needed(self._roster.unit(process_name))

    def log_paths(self) -> dict[str, Path]:
        """The log file of every process, by name."""
        return {name: unit.log for name, unit in self._roster.units.items()}
