"""The open sockets, and the one order in which frames go to them."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterator
from typing import Any

from aiohttp import WSCloseCode, web

__all__ = ["Sockets", "send_to"]


class Sockets:
    """Sockets by their client id. ``send`` may be called on any thread, the rest on the loop."""

    def __init__(self) -> None:
        self._open: dict[str, web.WebSocketResponse] = {}
        self._outbox: asyncio.Queue[tuple[Any, str | None]] = asyncio.Queue()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._publisher: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to send."""
        self._loop = asyncio.get_running_loop()
        self._publisher = asyncio.create_task(self._publish(), name="frames")

    async def close(self) -> None:
        """Close every socket."""
        for socket in list(self._open.values()):
            await socket.close(code=WSCloseCode.GOING_AWAY)

    async def stop(self) -> None:
        """Send no more."""
        if self._publisher is not None:
            self._publisher.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._publisher

    def send(self, frame: Any, client: str | None) -> None:
        """Send to one socket; to all when *client* is ``None``."""
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._outbox.put_nowait, (frame, client))

    @contextlib.contextmanager
    def joined(self, client: str, socket: web.WebSocketResponse) -> Iterator[None]:
        """Let a socket have its frames. A later one of the same id takes its place."""
        self._open[client] = socket
        try:
            yield
        finally:
            if self._open.get(client) is socket:
                del self._open[client]

    async def _publish(self) -> None:
        while True:
            frame, client = await self._outbox.get()
            for name, socket in list(self._open.items()):
                if client in (None, name):
                    # A socket that is going away misses its frames, as with the real one.
                    with contextlib.suppress(ConnectionError):
                        await send_to(socket, frame)


async def send_to(socket: web.WebSocketResponse, frame: Any) -> None:
    """Send one frame: bytes as they are, anything else as JSON."""
    if isinstance(frame, bytes):
        await socket.send_bytes(frame)
    else:
        await socket.send_str(json.dumps(frame))
