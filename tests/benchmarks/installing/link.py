"""A link to the bed's servers with a round trip and a width, as a proxy in this process.

What it leaves out makes it kinder than the world: no loss, no slow start, no TLS.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Iterator

import attrs

__all__ = ["Link", "through"]

_PIECE = 1 << 15
_AHEAD = 64
"""Pieces that may be under way in one connection and direction: 2 MiB, more than 50 ms hold at
100 Mbit/s."""


@attrs.define
class Link:
    """A line that all connections share.

    Attributes:
        round_trip: Seconds.
        width: Bytes per second, each way.
        down: Bytes that came from the server.
        connections: How many there were.
        carrying: Those that are there now.
    """

    round_trip: float = 0.05
    width: float = 100e6 / 8
    down: int = 0
    connections: int = 0
    carrying: set[asyncio.Task[None] | None] = attrs.field(factory=set)
    _free: dict[bool, float] = attrs.field(factory=lambda: {True: 0.0, False: 0.0})

    def passes(self, now: float, size: int, *, down: bool) -> float:
        """When a piece that is sent now has arrived, if the line is taken by those before it."""
        starts = max(now, self._free[down])
        self._free[down] = starts + size / self.width
        self.down += size if down else 0
        return self._free[down] + self.round_trip / 2


@contextlib.contextmanager
def through(link: Link, port: int) -> Iterator[int]:
    """Serve a port that leads to *port* over the link; the port's number."""
    told: queue.SimpleQueue[tuple[int, asyncio.AbstractEventLoop, asyncio.Event]]
    told = queue.SimpleQueue()

    async def serve() -> None:
        server = await asyncio.start_server(_Connection(link, port), "127.0.0.1", 0)
        end = asyncio.Event()
        told.put((server.sockets[0].getsockname()[1], asyncio.get_running_loop(), end))
        await end.wait()
        server.close()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    shown, loop, end = told.get()
    try:
        yield shown
    finally:
        loop.call_soon_threadsafe(end.set)
        thread.join()


@attrs.frozen
class _Connection:
    link: Link
    port: int

    async def __call__(self, near: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        self.link.connections += 1
        # The loop holds its tasks weakly; this one waits for nobody but itself.
        task = asyncio.current_task()
        self.link.carrying.add(task)
        try:
            await _after(self.link.round_trip)  # what a connection costs before its first byte
            far, out = await asyncio.open_connection("127.0.0.1", self.port)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._carry(near, out, down=False))
                group.create_task(self._carry(far, back, down=True))
            out.close()
        except* (ConnectionError, asyncio.CancelledError):
            """Somebody hung up, or the bed is taken down."""
        finally:
            self.link.carrying.discard(task)
            back.close()

    async def _carry(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, down: bool
    ) -> None:
        loop = asyncio.get_running_loop()
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_AHEAD)

        async def deliver() -> None:
            while True:
                due, data = await under_way.get()
                await _after(due - loop.time())
                if not data:
                    if writer.can_write_eof():
                        writer.write_eof()
                    return
                writer.write(data)
                await writer.drain()

        async with asyncio.TaskGroup() as group:
            group.create_task(deliver())
            while True:
                data = await reader.read(_PIECE)
                due = self.link.passes(loop.time(), len(data), down=down)
                await under_way.put((due, data))
                if not data:
                    break


async def _after(seconds: float) -> None:
    await asyncio.sleep(max(seconds, 0.0))
