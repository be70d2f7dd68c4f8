"""What the command line may ask of a running machine, and how calls reach it."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

from machine_lifecycle.control.errors import (
    ControlMessageUnusable,
    ProcessOurs,
    ProcessUnknown,
    UnknownCall,
)
from machine_lifecycle.control.messages import text_of
from machine_lifecycle.model.figures import Figures
from machine_lifecycle.model.status import StatusReport
from machine_lifecycle.model.wire import to_json_value

__all__ = ["Calls", "ControlCommands", "signal_number"]

_MOST_LINES = 100_000
"""Lines of each log that one call is answered with at most."""


def signal_number(text: str) -> int | None:
    """The number of ``SIGHUP``, ``hup`` or ``1``; ``None`` if there is no such signal."""
    if text.isascii() and text.isdigit():
        return int(text) if int(text) in {*map(int, signal.valid_signals())} else None
    name = text.upper()
    try:
        return signal.Signals[name if name.startswith("SIG") else f"SIG{name}"]
    except KeyError:
        return None


class ControlCommands(Protocol):
    """The machine as the control socket sees it. Called on the event loop."""

    def report(self) -> StatusReport:
        """How the machine is now; from memory."""

    async def figures(self) -> Mapping[int, Figures]:
        """Use per process, by pid of the tree's root. For ``ps`` only: it takes some ms."""

    def logs(
        self, names: Sequence[str], lines: int, *, since: float | None, follow: bool
    ) -> AsyncIterator[tuple[float, str, str]]:
        """The last *lines* lines of each log as (time, name, line) in order of time, or all since
        a time (wall-clock seconds), and with *follow* every later line, until the iterator is
        closed. All names are of the report.
        """

    def events(self) -> AsyncIterator[Mapping[str, Any]]:
        """Every event from now on, in its wire form, until the machine has stopped."""

    async def restart_process(self, name: str) -> None:
        """Start one process anew; returns when that is under way."""

    async def stop_process(self, name: str) -> None:
        """Stop one process, and keep it stopped."""

    async def start_process(self, name: str) -> None:
        """Start one that was stopped."""

    def signal_process(self, name: str, number: int) -> None:
        """Send a signal to one process itself."""

    async def reload(self) -> Mapping[str, Any]:
        """Read the settings anew and change what runs accordingly; what was done."""

    def shutdown(self) -> None:
        """Ask for a graceful stop of the whole machine; returns at once."""

    async def drain(self) -> None:
        """Take no further job."""

    async def undrain(self) -> None:
        """Take jobs again."""


_Call = Callable[[dict[str, Any]], Awaitable[Any]]
_Stream = Callable[[dict[str, Any]], AsyncIterator[Any]]


class Calls:
    """Calls by name, with their arguments checked."""

    def __init__(self, commands: ControlCommands) -> None:
        self._commands = commands
        self._calls: dict[str, _Call] = {
            "ping": self._ping,
            "status": self._status,
            "ps": self._ps,
            "restart": self._of_process(commands.restart_process),
            "stop_process": self._of_process(commands.stop_process),
            "start_process": self._of_process(commands.start_process),
            "signal_process": self._signal,
            "reload": self._reload,
            "shutdown": self._shutdown,
            "drain": self._drain,
            "undrain": self._undrain,
        }
        self._streams: dict[str, _Stream] = {"logs": self._logs, "events": self._events}

    async def call(self, name: str, args: dict[str, Any]) -> Any:
        """Do a call that has one answer; its result as JSON values."""
        if name not in self._calls:
            raise UnknownCall(call=name, known=(*self._calls, *self._streams))
        return await self._calls[name](args)

    def stream(self, name: str, args: dict[str, Any]) -> AsyncIterator[Any] | None:
        """The items of a streaming call; ``None`` if the name is not one."""
        found = self._streams.get(name)
        return found(args) if found else None

    async def _ping(self, _args: dict[str, Any]) -> Any:
        report = self._commands.report()
        return {"machine_id": report.machine_id, "pid": report.pid, "version": report.version}

    async def _status(self, _args: dict[str, Any]) -> Any:
        return to_json_value(self._commands.report())

    async def _ps(self, _args: dict[str, Any]) -> Any:
        figures = await self._commands.figures()
        processes = self._commands.report().processes
        return [
            {
                **to_json_value(process),
                "figures": to_json_value(figures.get(process.pid)) if process.pid else None,
            }
            for process in processes
        ]

    async def _shutdown(self, _args: dict[str, Any]) -> Any:
        self._commands.shutdown()
        return {"stopping": True}

    async def _drain(self, _args: dict[str, Any]) -> Any:
        await self._commands.drain()
        return {"draining": True}

    async def _undrain(self, _args: dict[str, Any]) -> Any:
        await self._commands.undrain()
        return {"draining": False}

    async def _signal(self, args: dict[str, Any]) -> Any:
        name = self._steerable(args)
        number = signal_number(text_of(args, "signal"))
        if number is None:
            raise ControlMessageUnusable(reason=f"there is no signal {args['signal']!r}")
        self._commands.signal_process(name, number)
        return {"name": name, "signal": number}

    async def _reload(self, _args: dict[str, Any]) -> Any:
        return to_json_value(await self._commands.reload())

    def _of_process(self, action: Callable[[str], Awaitable[None]]) -> _Call:
        async def call(args: dict[str, Any]) -> Any:
            name = self._steerable(args)
            await action(name)
            return {"name": name}

        return call

    def _steerable(self, args: dict[str, Any]) -> str:
        """The process that is named, which is not the machine itself."""
        (name,) = self._known([text_of(args, "name")])
        if any(each.ours for each in self._commands.report().processes if each.name == name):
            raise ProcessOurs(name=name)
        return name

    def _known(self, names: list[str]) -> list[str]:
        known = tuple(process.name for process in self._commands.report().processes)
        for name in names:
            if name not in known:
                raise ProcessUnknown(name=name, known=known)
        return names or list(known)

    async def _logs(self, args: dict[str, Any]) -> AsyncIterator[Any]:
        names, lines = args.get("names", []), args.get("lines", 50)
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ControlMessageUnusable(reason="'names' must be a list of text")
        if isinstance(lines, bool) or not isinstance(lines, int) or lines < 0:
            raise ControlMessageUnusable(reason="'lines' must be a number from 0")
        since = args.get("since")
        if since is not None and (isinstance(since, bool) or not isinstance(since, int | float)):
            raise ControlMessageUnusable(reason="'since' must be a number of seconds")
        wanted = self._known(names)
        source = self._commands.logs(
            wanted, min(lines, _MOST_LINES), since=since, follow=args.get("follow") is True
        )
        async for at, name, line in source:
            yield {"name": name, "line": line, "time": round(at, 3)}

    async def _events(self, _args: dict[str, Any]) -> AsyncIterator[Any]:
        async for event in self._commands.events():
            yield dict(event)
