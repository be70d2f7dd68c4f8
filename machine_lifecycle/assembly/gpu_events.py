"""Hears of critical errors of GPUs from the driver, when they happen.

The driver's events come to a blocking call alone, so a thread of its own waits for them. It wakes
twelve times a minute to see whether it is still wanted, and is abandoned at the end of the program.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator

import attrs

from machine_lifecycle.model.hardware import GpuSource, Hardware
from machine_lifecycle.system.nvml import XidEvent, xid_events

__all__ = ["GpuEvents"]


@attrs.define(kw_only=True, eq=False)
class GpuEvents:
    """Tells of each event in the loop that started it.

    Attributes:
        heard: Told of each, in order.
        read: Yields events until it is told to stop; blocks.
    """

    heard: Callable[[XidEvent], None]
    read: Callable[[Callable[[], bool]], Iterator[XidEvent]] = xid_events
    _closed: threading.Event = attrs.field(init=False, factory=threading.Event)
    _thread: threading.Thread | None = attrs.field(init=False, default=None)

    def start(self, hardware: Hardware) -> None:
        """Listen, if there is a driver that tells of events; once is enough."""
        if hardware.source is not GpuSource.NVML or self._thread is not None:
            return
        loop = asyncio.get_running_loop()
        self._thread = threading.Thread(
            target=self._listen, args=(loop,), name="gpu-events", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Tell of nothing more."""
        self._closed.set()

    def _listen(self, loop: asyncio.AbstractEventLoop) -> None:
        for event in self.read(self._closed.is_set):
            if self._closed.is_set() or loop.is_closed():
                return
            loop.call_soon_threadsafe(self._tell, event)

    def _tell(self, event: XidEvent) -> None:
        if not self._closed.is_set():
            self.heard(event)
