"""Reap what the kernel hands to us, as soon as it has ended."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable

from machine_lifecycle.supervisor.tree import reap_orphans

__all__ = ["OrphanWatch"]


class OrphanWatch:
    """Looks at our children when one has ended (SIGCHLD). Where the event loop doesn't run in the
    main thread there is no such signal; orphans are then reaped at the end of their tree.
    """

    def __init__(self, known: Callable[[int], bool]) -> None:
        self._known = known
        self._open = False

    def open(self) -> None:
        """Begin. Safe to call twice."""
        if not self._open and threading.current_thread() is threading.main_thread():
            loop = asyncio.get_running_loop()
            loop.add_signal_handler(signal.SIGCHLD, lambda: reap_orphans(self._known))
            self._open = True

    def close(self) -> None:
        """End."""
        if self._open:
            asyncio.get_running_loop().remove_signal_handler(signal.SIGCHLD)
            self._open = False
