"""ComfyUI's socket: kept open for as long as the connector lives."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable
from functools import partial
from typing import Any
from urllib.parse import urlencode

from websockets.asyncio.client import ClientConnection, connect
from websockets.client import ClientProtocol
from websockets.exceptions import WebSocketException
from websockets.frames import Frame, Opcode
from websockets.protocol import Event as ProtocolEvent

from machine_lifecycle.connectors.base import Endpoint
from machine_lifecycle.connectors.comfyui_events import (
    Event,
    Greeting,
    Malformed,
    QueueStatus,
    parse_frame,
)
from machine_lifecycle.connectors.comfyui_pages import tls_context
from machine_lifecycle.connectors.errors import ServiceUnreachable

__all__ = ["ComfyUISocket"]

_FIRST_BACKOFF = 0.1
_LONGEST_BACKOFF = 5.0
_MESSAGES = (Opcode.TEXT, Opcode.BINARY, Opcode.CONT)
_PING_INTERVAL = 30.0  # keeps proxies in between from closing a quiet connection


class _Connection(ClientConnection):
    """Hands messages on as they come. Many are short, and a prompt has a dozen: to queue each, and
    to wake a task for it, costs more than to read it.
    """

    def __init__(
        self, protocol: ClientProtocol, *, hear: Callable[[str | bytes], None], **options: Any
    ) -> None:
        super().__init__(protocol, **options)
        self._hear = hear
        self._kind = Opcode.TEXT
        self._parts: list[bytes] = []

    def process_event(self, event: ProtocolEvent) -> None:
        """Take a frame; what is no message is the library's."""
        if not isinstance(event, Frame) or event.opcode not in _MESSAGES:
            super().process_event(event)
            return
        if event.opcode is not Opcode.CONT:
            self._kind = event.opcode
        self._parts.append(bytes(event.data))
        if event.fin:
            message, self._parts = b"".join(self._parts), []
            self._hear(message.decode(errors="replace") if self._kind is Opcode.TEXT else message)


class ComfyUISocket:
    """Connects, and again when the connection breaks, with growing pauses.

    Args:
        endpoint: Where.
        asked_id: The client id we would like; the server may give another.
        on_event: Told everything the service says, in order.
        on_link: Told our client id when the socket is up, and ``""`` when it is lost.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        asked_id: str,
        on_event: Callable[[Event], None],
        on_link: Callable[[str], None],
    ) -> None:
        self.client_id: str = ""
        """The id under which events come; empty while the socket is away."""
        self.malformed: int = 0
        """Messages that could not be read."""
        self._endpoint = endpoint
        self._url = endpoint.url(f"/ws?{urlencode({'clientId': asked_id})}", scheme="ws")
        self._on_event = on_event
        self._on_link = on_link
        self._up = asyncio.Event()
        self._wanted = asyncio.Event()
        self._reason = "not connected yet"
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to connect."""
        self._task = asyncio.create_task(self._stay_connected(), name="comfyui-socket")

    async def stop(self) -> None:
        """Close, and connect no more."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def ready(self, seconds: float) -> str:
        """The client id, as soon as the socket is up.

        Raises:
            ServiceUnreachable: It is not up within *seconds*.
        """
        self._wanted.set()
        if self.client_id:
            return self.client_id
        try:
            async with asyncio.timeout(seconds):
                await self._up.wait()
        except TimeoutError:
            url = self._endpoint.url()
            raise ServiceUnreachable(url=url, reason=self._reason) from None
        return self.client_id

    async def _stay_connected(self) -> None:
        backoff = _FIRST_BACKOFF
        while True:
            try:
                async with connect(
                    self._url,
                    additional_headers=self._endpoint.headers(),
                    ssl=tls_context(self._endpoint),
                    open_timeout=float(self._endpoint.options.get("connect_timeout", 10.0)),
                    close_timeout=1.0,
                    compression=None,  # of short texts and of pictures: work for nothing
                    max_size=None,  # previews and node outputs have no limit of their own
                    ping_interval=_PING_INTERVAL,
                    # A service that computes may not answer pings for minutes. It is not lost;
                    # dropping it would lose its events.
                    ping_timeout=None,
                    proxy=None,
                    # The library takes any factory, whatever it says.
                    create_connection=partial(_Connection, hear=self._hear),  # type: ignore[arg-type]
                ) as socket:
                    async for _ in socket:  # to its end: all that is said goes to ``_hear``
                        pass
                backoff = _FIRST_BACKOFF
                self._reason = "the service closed the connection"
            except (OSError, WebSocketException, TimeoutError) as error:
                self._reason = str(error) or type(error).__name__
                backoff = _FIRST_BACKOFF if self.client_id else backoff
            finally:
                self._lost()
            await self._pause(backoff * random.uniform(0.7, 1.3))  # noqa: S311  # spread, no secret
            backoff = min(_LONGEST_BACKOFF, backoff * 2)

    def _hear(self, message: str | bytes) -> None:
        event = parse_frame(message)
        if isinstance(event, Malformed):
            self.malformed += 1
        if event is None:
            return
        if isinstance(event, Greeting | QueueStatus) and event.client_id:
            self._greeted(event.client_id)
        self._on_event(event)

    def _greeted(self, client_id: str) -> None:
        if client_id == self.client_id:
            return
        self.client_id = client_id
        self._up.set()
        self._on_link(client_id)

    def _lost(self) -> None:
        if self.client_id:
            self.client_id = ""
            self._up.clear()
            self._on_link("")

    async def _pause(self, seconds: float) -> None:
        """Wait, but not when somebody needs the socket now and has not waited yet."""
        self._wanted.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wanted.wait()
