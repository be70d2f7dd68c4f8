"""Connections for hot loops: calls go out as they are made, and answers come back in their order.

redis-py spends several times as much on a call as the network does (a PING after a pause: 540 µs
against 190 µs). It still makes the connection, with all that belongs to that: password, TLS,
Sentinels. Then its stream is taken over, and hiredis alone reads and writes it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

import hiredis
from redis.asyncio import Redis
from redis.exceptions import BusyLoadingError, ReadOnlyError, RedisError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

__all__ = ["Line", "Subscription"]

_NOTHING = object()


def _refusal(text: str) -> RedisError:
    if text.startswith("LOADING "):
        return BusyLoadingError(text)
    return ReadOnlyError(text) if text.startswith("READONLY ") else ResponseError(text)


class _Wire(asyncio.Protocol):
    """The stream of a connection."""

    def __init__(
        self, redis: Redis, *, hear: Callable[[Any], None], lost: Callable[[RedisError], None]
    ) -> None:
        """Make it; it connects when opened.

        Args:
            redis: It connects as this client does.
            hear: Takes each answer.
            lost: Called when it breaks.
        """
        self._pool: Any = redis.connection_pool  # redis-py gives it no types
        self._hear = hear
        self._lost = lost
        self._connection: Any = None
        self._transport: Any = None
        self._reader = hiredis.Reader()

    @property
    def is_open(self) -> bool:
        """Whether it can be written to."""
        return self._transport is not None

    async def open(self) -> None:
        """Connect.

        Raises:
            RedisError: As redis-py tells it.
        """
        await self.close()
        self._connection = self._pool.make_connection()
        await self._connection.connect()
        self._reader = hiredis.Reader(
            replyError=_refusal, encoding="utf-8", errors="replace", notEnoughData=_NOTHING
        )
        self._transport = self._connection._writer.transport  # noqa: SLF001 - there is no other way
        self._transport.set_protocol(self)

    async def close(self) -> None:
        """Let go."""
        self._transport = None
        if self._connection is not None:
            await self._connection.disconnect(nowait=True)
            self._connection = None

    def send(self, *words: Any) -> None:
        """Write one command."""
        self._transport.write(hiredis.pack_command(words))

    def break_off(self, error: RedisError) -> None:
        """Use it no more."""
        if self._transport is not None:
            self._transport.abort()
            self._transport = None
            self._lost(error)

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        self._reader.feed(data)
        while (answer := self._reader.gets()) is not _NOTHING:
            self._hear(answer)

    def connection_lost(self, exc: Exception | None) -> None:
        """It broke, or the server closed it."""
        self.break_off(RedisConnectionError(str(exc or "Connection closed by server.")))


class Line:
    """Calls over one connection, many of which may be on their way.

    It connects with the first call, and again with the first one after a break. What was on its way
    is sent once more then, as redis-py does: only for calls that are safe to repeat.
    """

    def __init__(self, redis: Redis, *, patience: float = 10.0) -> None:
        """Make a line; nothing is opened until it is used.

        Args:
            redis: It connects as this client does.
            patience: Seconds that an answer may take.
        """
        self._wire = _Wire(redis, hear=self._answered, lost=self._lost)
        self._opening = asyncio.Lock()
        self._patience = patience
        self._closed = False
        self._waiting: deque[asyncio.Future[Any]] = deque()
        self._limit: asyncio.TimerHandle | None = None

    async def execute_command(self, *words: Any) -> Any:
        """One command, a word each; its answer, text as ``str``.

        Raises:
            RedisError: It was refused; the server is away, or says nothing.
            OSError: Likewise.
        """
        try:
            return await self._call(words)
        except RedisConnectionError:
            if self._closed:
                raise
        return await self._call(words)

    async def _call(self, words: tuple[Any, ...]) -> Any:
        if not self._wire.is_open:
            async with self._opening:
                if not self._wire.is_open:
                    await self._wire.open()
        loop = asyncio.get_running_loop()
        answer = loop.create_future()
        self._waiting.append(answer)
        if self._limit is None:
            self._limit = loop.call_later(self._patience, self._silent)
        self._wire.send(*words)
        return await answer

    async def aclose(self) -> None:
        """Let go of the connection."""
        self._closed = True
        self._lost(RedisConnectionError("closed"))
        await self._wire.close()

    def _answered(self, answer: Any) -> None:
        waiting = self._waiting.popleft()
        if self._limit is not None:
            self._limit.cancel()
        self._limit = (
            asyncio.get_running_loop().call_later(self._patience, self._silent)
            if self._waiting
            else None
        )
        if not waiting.done():
            if isinstance(answer, Exception):
                waiting.set_exception(answer)
            else:
                waiting.set_result(answer)
        if isinstance(answer, ReadOnlyError):  # it was the primary; its name may lead to another
            self._wire.break_off(answer)

    def _silent(self) -> None:
        self._wire.break_off(RedisTimeoutError(f"no answer within {self._patience:g} s"))

    def _lost(self, error: RedisError) -> None:
        if self._limit is not None:
            self._limit.cancel()
            self._limit = None
        waiting, self._waiting = self._waiting, deque()
        for each in waiting:
            if not each.done():
                each.set_exception(type(error)(*error.args))


class Subscription:
    """Hears what is published on channels, over a connection of its own."""

    def __init__(
        self, redis: Redis, *, hear: Callable[[str, str], None], ready: Callable[[], None]
    ) -> None:
        """Make it; nothing is opened until ``listen``.

        Args:
            redis: It connects as this client does.
            hear: Takes the channel and the text of each message.
            ready: Called each time that the server has said that it will tell of a channel.
        """
        self._wire = _Wire(redis, hear=self._came, lost=self._lost)
        self._hear = hear
        self._ready = ready
        self._broken: asyncio.Future[None] | None = None

    async def listen(self, *channels: str) -> None:
        """Hear what comes until it breaks, which is raised; or until cancelled.

        Raises:
            RedisError: The server refuses, or went away.
            OSError: Likewise.
        """
        self._broken = asyncio.get_running_loop().create_future()
        try:
            await self._wire.open()
            self._wire.send("SUBSCRIBE", *channels)
            await self._broken
        finally:
            self._broken = None
            await self._wire.close()

    def change(self, channel: str, *, heard: bool) -> None:
        """Hear one more, or no more of one, while it listens."""
        if self._wire.is_open:
            self._wire.send("SUBSCRIBE" if heard else "UNSUBSCRIBE", channel)

    def _came(self, answer: Any) -> None:
        if isinstance(answer, RedisError):
            self._wire.break_off(answer)
        elif answer[0] == "message":
            self._hear(answer[1], answer[2])
        elif answer[0] == "subscribe":
            self._ready()

    def _lost(self, error: RedisError) -> None:
        if self._broken is not None and not self._broken.done():
            self._broken.set_exception(error)
