"""From spawn to readiness: what one process is waited for, and how long."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from machine_lifecycle.model.processes import LinkReady, NotifyReady, ProcessSpec
from machine_lifecycle.supervisor.household import Household
from machine_lifecycle.supervisor.journal import Entry
from machine_lifecycle.supervisor.notify import NotifySocket, notify_path
from machine_lifecycle.supervisor.readiness import Surroundings, describe, wait_until
from machine_lifecycle.system import last_words

__all__ = ["Startup"]


class Startup:
    """The start of one process, and each further start of it.

    Attributes:
        needs: Set while everything it needs is ready.
        linked: Set while it is connected over its link.
        notified: Set when the running process has said ``READY=1``.
        told: How often it said over its link why it is not connected.
        log_offset: Where the running process's part of its log begins.
    """

    def __init__(
        self,
        spec: ProcessSpec,
        log: Path,
        home: Household,
        on_notified: Callable[[], None],
        belongs: Callable[[int], bool],
    ) -> None:
        self.needs: asyncio.Event = asyncio.Event()
        self.linked: asyncio.Event = asyncio.Event()
        self.notified: asyncio.Event = asyncio.Event()
        self.log_offset: int = 0
        self.told: int = 0
        self._spec = spec
        self._log = log
        self._home = home
        self._on_notified = on_notified
        self._belongs = belongs
        self._words = ""
        self._problem = ""
        self._deadline: asyncio.Timeout | None = None
        self._notify: NotifySocket | None = None
        self._last_words = home.paths.runtime / "last-words" / f"{spec.name}.json"

    # What others tell

    def needs_changed(self, *, ready: bool) -> None:
        """What it needs got ready, or is no longer. The deadline counts only meanwhile."""
        (self.needs.set if ready else self.needs.clear)()
        if self._deadline is not None:
            self._deadline.reschedule(self._due())

    def link(self, *, ready: bool) -> None:
        """It is connected over its link, or is no longer."""
        (self.linked.set if ready else self.linked.clear)()
        if not ready:
            self.expect(describe(LinkReady(), self._spec))

    def link_tells(self, words: str) -> None:
        """It says why it is not connected yet."""
        self.told += 1
        if not self.linked.is_set():
            self.expect(describe(LinkReady(), self._spec), words)

    def _said_ready(self) -> None:
        self.notified.set()
        self._on_notified()

    # What is waited for

    def expect(self, words: str, problem: str = "") -> None:
        """What is waited for now, and what stands against it."""
        self._words, self._problem = words, problem

    def waiting(self) -> str:
        """The same for people; empty if nothing is."""
        if not self._words:
            return ""
        problem = f": {self._problem}" if self._problem else ""
        said = f" ({self._notify.status})" if self._notify and self._notify.status else ""
        return f"{self._words}{problem}{said}"

    # One start

    async def clear(self) -> None:
        """Return when what it must find before a start is there."""
        if self._home.before_start is not None:
            await self._home.before_start(self._spec, self.expect)

    def begin(self) -> dict[str, str]:
        """Before each spawn; variables that the process must be given."""
        self._listen()
        self.notified.clear()
        self.linked.clear()
        self.expect("")
        self.log_offset = self._home.keeper.begin(self._log)
        self._last_words.unlink(missing_ok=True)
        told = {last_words.VARIABLE: str(self._last_words)}
        if self._notify is None:
            return told
        self._notify.begin_anew()
        told["NOTIFY_SOCKET"] = str(self._notify.path)
        if self._spec.watchdog:
            told["WATCHDOG_USEC"] = str(round(self._spec.watchdog * 1e6))
        return told

    def resume(self, entry: Entry) -> None:
        """Instead, for a process that an earlier orchestrator spawned."""
        self._listen()
        self.log_offset = entry.log_offset
        self._home.keeper.watch(self._log)
        if entry.notified:
            self.notified.set()

    def _listen(self) -> None:
        speaks = any(isinstance(one, NotifyReady) for one in self._spec.readiness)
        if self._notify is None and (speaks or self._spec.watchdog):
            path = notify_path(self._home.paths.runtime, self._spec.name)
            self._notify = NotifySocket(path, self._said_ready, self._belongs)

    def said(self) -> dict[str, Any] | None:
        """The error that the last run left word of: why it ended, by its own account."""
        return last_words.read(self._last_words)

    async def missed(self) -> str:
        """Return, with the reason, when a beat of its watchdog is missed; never if it has none."""
        if self._notify is None or not self._spec.watchdog:
            await asyncio.get_running_loop().create_future()
            return ""
        return await self._notify.missed(self._spec.watchdog)

    def hang_up(self) -> None:
        """After the last end."""
        if self._notify is not None:
            self._notify.close()
            self._notify = None

    def _due(self) -> float | None:
        if self._spec.needs and not self.needs.is_set():
            return None
        return asyncio.get_running_loop().time() + self._spec.start_deadline

    @contextlib.asynccontextmanager
    async def _counting(self) -> AsyncIterator[None]:
        async with asyncio.timeout_at(self._due()) as deadline:
            self._deadline = deadline
            try:
                yield
            finally:
                self._deadline = None

    async def until_ready(self) -> None:
        """Return when all readiness conditions hold.

        Raises:
            TimeoutError: The start deadline is over.
        """
        around = Surroundings(
            spec=self._spec,
            log=self._log,
            log_offset=self.log_offset,
            notified=self.notified,
            linked=self.linked,
            run=lambda command: self._home.run(self._spec.name, command),
        )
        async with self._counting():
            for readiness in self._spec.readiness:
                words = describe(readiness, self._spec)
                self.expect(words)
                await wait_until(
                    readiness,
                    around,
                    lambda problem, words=words: self.expect(words, problem),  # type: ignore[misc]  # a bound default
                )
        self.expect("")
