"""What the supervised processes of one machine share: environment, journal, the list of leaders."""

from __future__ import annotations

import asyncio
import contextlib
import secrets as randomness
import subprocess
from collections.abc import Awaitable, Callable, Mapping

import attrs

from machine_lifecycle.model.paths import Paths
from machine_lifecycle.model.processes import Command, ProcessSpec
from machine_lifecycle.supervisor import spawn
from machine_lifecycle.supervisor.child import Child
from machine_lifecycle.supervisor.journal import Entry, Journal
from machine_lifecycle.supervisor.keeping import LogKeeper
from machine_lifecycle.supervisor.kill_cause import OomCount
from machine_lifecycle.supervisor.orphans import Bearers, Orphans
from machine_lifecycle.supervisor.tree import FAST

__all__ = ["BeforeStart", "Household", "new_token"]

BeforeStart = Callable[[ProcessSpec, Callable[[str], None]], Awaitable[None]]
"""Returns when a process may be started; the second argument is told what it waits for."""


def new_token() -> str:
    """A word by which a process and all that it starts can be told from all others."""
    return randomness.token_hex(16)


@attrs.define(kw_only=True)
class Household:
    """Shared by the units of one supervisor.

    Attributes:
        paths: The machine's folders.
        base_env: What every process inherits.
        secrets: Value of a secret variable, or ``None``.
        keeper: Keeps the logs within their bounds.
        before_start: Waits for what a process must find before each start of it, and tells in words
            what that is; ``None``: nothing.
        reaps: Whether orphans are handed to us.
        orphans: Finds and reaps those; ``None`` if they aren't handed to us.
        bearers: Finds what else slipped away from a tree.
        oom: What the kernel has killed for want of memory.
        leaders: Numbers of the processes that we started or adopted.
        entries: What the journal holds.
    """

    paths: Paths
    base_env: Mapping[str, str]
    secrets: Callable[[str], str | None]
    reaps: bool
    journal: Journal
    keeper: LogKeeper
    before_start: BeforeStart | None = None
    leaders: set[int] = attrs.field(factory=set)
    entries: dict[str, Entry] = attrs.field(factory=dict)
    orphans: Orphans | None = attrs.field(init=False)
    bearers: Bearers = attrs.field(factory=Bearers, init=False)
    oom: OomCount = attrs.field(factory=OomCount, init=False)
    _entered: dict[str, Child] = attrs.field(factory=dict, init=False)
    _saving: bool = attrs.field(default=False, init=False)

    @orphans.default
    def _find_orphans(self) -> Orphans | None:
        return Orphans(self.known) if self.reaps and FAST else None

    def known(self, pid: int) -> bool:
        """Whether this is a leader of one of our trees."""
        return pid in self.leaders

    def save(self) -> None:
        """Write the journal now."""
        self._saving = False
        for name, child in self._entered.items():
            with contextlib.suppress(ProcessLookupError):  # somebody else reaped it
                who = child.identity
                self.entries[name] = attrs.evolve(
                    self.entries[name], pid=who.pid, created=who.created, boot=who.boot
                )
        self._entered.clear()
        self.journal.write(self.entries)

    def save_soon(self) -> None:
        """Write the journal in the next turn of the loop, once for all changes of this one."""
        if not self._saving:
            self._saving = True
            asyncio.get_running_loop().call_soon(self._save_if_due)

    def _save_if_due(self) -> None:
        if self._saving:
            self.save()

    def enter(self, entry: Entry, child: Child) -> None:
        """Record a process that was spawned or adopted."""
        self.entries[entry.name] = entry
        self._entered[entry.name] = child
        self.save_soon()

    def forget(self, name: str) -> None:
        """Remove a process from the journal."""
        self._entered.pop(name, None)
        if self.entries.pop(name, None) is not None:
            self.save_soon()

    def watch(self, popen: subprocess.Popen[bytes], token: str) -> Child:
        """Take a process that was just spawned."""
        child = Child(popen, token, strays=self.orphans or self.bearers)
        self._enlist(child)
        return child

    def adopt(self, entry: Entry) -> Child:
        """Take a process of an earlier orchestrator.

        Raises:
            ProcessLookupError: It has ended.
        """
        identity = entry.identity
        if identity is None:
            raise ProcessLookupError(entry.name)
        # What an adopted process loses is handed to whoever was its parent, not to us.
        child = Child(identity, entry.token, strays=self.bearers)
        self._enlist(child)
        return child

    def _enlist(self, child: Child) -> None:
        self.leaders.add(child.pid)
        child.ended.add_done_callback(lambda _: self.leaders.discard(child.pid))

    def run(self, name: str, command: Command) -> Child:
        """Start a command beside a process, with that one's environment and no log."""
        token = new_token()
        env = spawn.environment(name, command, self.base_env, self.secrets, token)
        return self.watch(spawn.run(name, command, env), token)
