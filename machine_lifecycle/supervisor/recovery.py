"""Deal with the processes that an earlier orchestrator of this machine left behind."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Iterable, Sequence

from machine_lifecycle.model.processes import NotifyReady, ProcessSpec
from machine_lifecycle.supervisor import spawn
from machine_lifecycle.supervisor.child import KILLED_WITHIN
from machine_lifecycle.supervisor.errors import ProcessesLeft
from machine_lifecycle.supervisor.household import Household
from machine_lifecycle.supervisor.identity import Identity, alive, boot_mark, send
from machine_lifecycle.supervisor.journal import Entry
from machine_lifecycle.supervisor.roster import Roster
from machine_lifecycle.supervisor.tree import bearers
from machine_lifecycle.supervisor.watch import gone

__all__ = ["Inheritance", "end_recorded"]

_GRACE = 3.0
"""Seconds between asking what is not wanted any more to end and killing it."""
_log = logging.getLogger(__name__)


def _deaf(entry: Entry, spec: ProcessSpec) -> bool:
    """Whether its ``READY=1`` may have been said to nobody: it says that only once."""
    return not entry.notified and any(isinstance(one, NotifyReady) for one in spec.readiness)


def _living(entry: Entry) -> bool:
    """Whether the recorded process itself still runs."""
    return entry.identity is not None and alive(entry.identity)


async def end_recorded(entries: Iterable[Entry], home: Household) -> tuple[int, ...]:
    """End recorded processes with their trees; numbers of those that could not be ended.

    A process whose orchestrator was killed between spawning it and recording its number is found
    by its token, and so is what a dead process left behind. Only the tokens of these entries are
    looked for.
    """
    rows = tuple(entries)
    if not rows:
        return ()
    children = []
    for entry in rows:
        if _living(entry):
            try:
                children.append(home.adopt(entry))
            except ProcessLookupError:
                continue
    if children:
        _log.info("ending processes of an earlier run: %s", [child.pid for child in children])
    ends = await asyncio.gather(*(child.end(signal.SIGTERM, _GRACE) for child in children))
    left = {pid for pids in ends for pid in pids}
    return tuple(left | await _end_bearers(frozenset(entry.token for entry in rows)))


async def _end_bearers(tokens: frozenset[str]) -> set[int]:
    loop = asyncio.get_running_loop()
    until = loop.time() + KILLED_WITHIN
    while True:  # a tree may go on forking while it is killed
        found = [
            Identity(stat.pid, stat.created, boot_mark())
            for stats in bearers(tokens).values()
            for stat in stats
        ]
        if not found:
            return set()
        for identity in found:
            send(identity, signal.SIGKILL)
        await gone(found, until - loop.time())
        if loop.time() >= until:
            return {identity.pid for identity in found if alive(identity)}


class Inheritance:
    """What the journal told when we came. Each entry is dealt with once."""

    def __init__(self, home: Household, roster: Roster) -> None:
        self._home = home
        self._roster = roster
        self._entries: dict[str, Entry] | None = None

    def _read(self) -> dict[str, Entry]:
        if self._entries is None:
            self._entries = self._home.journal.read()
            self._home.entries = {**self._entries, **self._home.entries}
        return self._entries

    def take(self) -> tuple[Entry, ...]:
        """All entries not yet dealt with; whoever calls this deals with them."""
        entries = tuple(self._read().values())
        self._entries = {}
        for entry in entries:
            self._home.forget(entry.name)
        return entries

    async def settle(
        self, specs: Sequence[ProcessSpec], names: Iterable[str] | None = None
    ) -> tuple[str, ...]:
        """Adopt what still runs as *specs* want it and end the rest; names of the adopted.

        Args:
            specs: What is wanted.
            names: Entries to deal with; all if not given.

        Raises:
            ProcessesLeft: Some could not be ended.
        """
        inherited = self._read()
        chosen = tuple(inherited) if names is None else tuple(names)
        entries = [inherited.pop(name) for name in chosen if name in inherited]
        wanted = {spec.name: spec for spec in specs if not self._roster.runs(spec.name)}
        adopted, others = [], []
        for entry in entries:
            if self._adopt(entry, wanted.get(entry.name)):
                adopted.append(entry.name)
            else:
                self._home.forget(entry.name)
                others.append(entry)
        left = await end_recorded(others, self._home)
        if left:
            raise ProcessesLeft(pids=left)
        return tuple(adopted)

    def _adopt(self, entry: Entry, spec: ProcessSpec | None) -> bool:
        if spec is None or entry.digest != spawn.digest(spec, self._home.secrets):
            return False
        if _deaf(entry, spec):
            return False
        unit = self._roster.enlist(spec)
        try:
            unit.adopt(entry)
        except ProcessLookupError:  # it has ended
            del self._roster.units[entry.name]
            return False
        self._roster.tell_needs(unit)
        unit.begin()
        return True
