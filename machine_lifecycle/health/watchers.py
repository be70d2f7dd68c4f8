"""Readers of ``/events``: each is sent the newest report whenever something changed.

There is no queue: a change wakes a reader, who then takes the report of that moment. A slow reader
sees fewer reports, never old ones, and costs no memory.
"""

from __future__ import annotations

import asyncio

__all__ = ["Watchers"]


class Watchers:
    """The readers that are connected now.

    Args:
        limit: Most readers at once; each costs a task and a socket.
    """

    def __init__(self, *, limit: int = 64) -> None:
        self._limit = limit
        self._bells: set[asyncio.Event] = set()
        self.closing: bool = False

    def __len__(self) -> int:
        return len(self._bells)

    def join(self) -> asyncio.Event | None:
        """A bell for one more reader, rung once already; ``None`` when all places are taken."""
        if self.closing or len(self._bells) >= self._limit:
            return None
        bell = asyncio.Event()
        bell.set()
        self._bells.add(bell)
        return bell

    def leave(self, bell: asyncio.Event) -> None:
        """A reader has gone."""
        self._bells.discard(bell)

    def ring(self) -> None:
        """Something changed."""
        for bell in self._bells:
            bell.set()

    def close(self) -> None:
        """Send every reader home."""
        self.closing = True
        self.ring()
