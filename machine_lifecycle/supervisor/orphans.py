"""Find what slipped away from our trees, and reap what the kernel hands to us.

When many processes end at once, each end asks what it left behind. One look is shared by all that
is dealt with in one turn of the event loop: it was taken after the kernel had told of those ends.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from machine_lifecycle.supervisor.identity import Stat, read_stat
from machine_lifecycle.supervisor.tree import all_stats, children, token_of

__all__ = ["Bearers", "OrphanWatch", "Orphans"]

_T = TypeVar("_T")


class _Shared(Generic[_T]):
    """What one look found, until the turn of the event loop is over."""

    def __init__(self, look: Callable[[], _T]) -> None:
        self._look = look
        self._found: _T | None = None
        self._taken = 0.0

    def get(self, after: float) -> _T:
        """What there is now, or was in this turn and after this time."""
        if self._found is None or self._taken <= after:
            if self._found is None:
                asyncio.get_running_loop().call_soon(self._forget)
            self._taken = time.monotonic()
            self._found = self._look()
        return self._found

    def _forget(self) -> None:
        self._found = None


class Orphans:
    """Those that the kernel hands to us, where we are the reaper of orphans: they are among our own
    children, so a look costs little.
    """

    def __init__(self, known: Callable[[int], bool]) -> None:
        """Look at nothing yet.

        Args:
            known: Tells the leaders of our trees, which are ours but no orphans.
        """
        self._known = known
        self._seen = _Shared(self._look)

    def _look(self) -> dict[int, Stat]:
        found = (read_stat(pid) for pid in children(os.getpid()) if not self._known(pid))
        return {stat.pid: stat for stat in found if stat}

    def of(self, leader: int, token: str, after: float) -> list[Stat]:
        """See ``tree.Strays``."""
        return [
            stat
            for stat in self._seen.get(after).values()
            if stat.pid != leader and (stat.session == leader or token_of(stat.pid) == token)
        ]

    def reap(self) -> None:
        """Reap the dead ones.

        Children that other code of this program started are left to it. They are known by their
        session, which is this program's, or one that they lead themselves. A process is an orphan
        for certain if it is in one of our trees' sessions, or in that of a third process.
        """
        seen, own_session = self._seen.get(0.0), os.getsid(0)
        for stat in list(seen.values()):
            if stat.dead and stat.session not in (own_session, stat.pid):
                del seen[stat.pid]
                try:
                    os.waitpid(stat.pid, os.WNOHANG)
                except ChildProcessError:
                    continue  # whoever started it was faster


class Bearers:
    """Those that bear a tree's token, looked for among all processes of the system."""

    def __init__(self) -> None:
        self._seen = _Shared(self._look)

    def _look(self) -> dict[str, list[Stat]]:
        found: dict[str, list[Stat]] = {}
        for stat in all_stats().values():
            token = "" if stat.dead else token_of(stat.pid)
            if token and stat.pid != os.getpid():
                found.setdefault(token, []).append(stat)
        return found

    def of(self, leader: int, token: str, after: float) -> list[Stat]:
        """See ``tree.Strays``."""
        return [stat for stat in self._seen.get(after).get(token, ()) if stat.pid != leader]


class OrphanWatch:
    """Has orphans reaped as soon as one has ended (SIGCHLD). Where the event loop doesn't run in
    the main thread there is no such signal; orphans are then reaped at the end of their tree.
    """

    def __init__(self, orphans: Orphans) -> None:
        self._orphans = orphans
        self._open = False

    def open(self) -> None:
        """Begin. Safe to call twice."""
        if not self._open and threading.current_thread() is threading.main_thread():
            asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, self._orphans.reap)
            self._open = True

    def close(self) -> None:
        """End."""
        if self._open:
            asyncio.get_running_loop().remove_signal_handler(signal.SIGCHLD)
            self._open = False
