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
from redis.exceptions import (
    BusyLoadingError,
    ClusterDownError,
    MasterDownError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

__all__ = ["Line", "Subscription"]

_NOTHING = object()
_CLOSED = "Connection closed by server."
_SLOWEST = 512 * 1024
"""Bytes a second at which what is large may crawl: 4 Mbit/s, a poor line to a server far away."""
_REFUSALS: dict[str, type[RedisError]] = {
    "LOADING": BusyLoadingError,
    "READONLY": ReadOnlyError,
    "MASTERDOWN": MasterDownError,
    "CLUSTERDOWN": ClusterDownError,
    "TRYAGAIN": TryAgainError,
}


def _refusal(text: str) -> RedisError:
    return _REFUSALS.get(text.partition(" ")[0], ResponseError)(text)


def _packed(words: tuple[Any, ...]) -> bytes:
    pack: Callable[[tuple[Any, ...]], bytes] = hiredis.pack_command
    try:
        return pack(words)
    except UnicodeEncodeError:  # half of a character, which JSON may hold
        whole = (word.encode(errors="replace") if isinstance(word, str) else word for word in words)
        return pack(tuple(whole))


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
        self.heard_at = 0.0
        """When bytes came last, as the event loop counts."""

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
        connection = self._connection = self._pool.make_connection()
        await connection.connect()
        if self._connection is not connection:  # closed meanwhile
            await connection.disconnect(nowait=True)
            raise RedisConnectionError("closed")
        transport = connection._writer.transport  # noqa: SLF001 - there is no other way
        if transport.is_closing() or connection._reader.at_eof():  # noqa: SLF001 - likewise
            # It has ended by now, which would be told to redis-py alone.
            await connection.disconnect(nowait=True)
            raise RedisConnectionError(_CLOSED)
        self._reader = hiredis.Reader(
            replyError=_refusal, encoding="utf-8", errors="replace", notEnoughData=_NOTHING
        )
        self._transport = transport
        self._transport.set_protocol(self)

    async def close(self) -> None:
        """Let go."""
        self._leave()
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.disconnect(nowait=True)

    def send(self, command: bytes) -> None:
        """Write one command."""
        self._transport.write(command)

    def break_off(self, error: RedisError) -> None:
        """Use it no more."""
        if transport := self._leave():
            transport.abort()
            self._lost(error)

    def _leave(self) -> Any:
        """The stream, of which nothing is heard from here on: its end may come after the next
        one's beginning.
        """
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.set_protocol(asyncio.Protocol())
        return transport

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        self.heard_at = asyncio.get_running_loop().time()
        self._reader.feed(data)
        # An answer may be one after which no other counts.
        while self.is_open and (answer := self._reader.gets()) is not _NOTHING:
            self._hear(answer)

    def connection_lost(self, exc: Exception | None) -> None:
        """It broke, or the server closed it."""
        self.break_off(RedisConnectionError(str(exc or _CLOSED)))


class Line:
    """Calls over one connection, many of which may be on their way.

    It connects with the first call, and again with the first one after a break. What was on its way
    is sent once more then, as redis-py does: only for calls that are safe to repeat.
    """

    def __init__(self, redis: Redis, *, patience: float = 10.0) -> None:
        """Make a line; nothing is opened until it is used.

        Args:
            redis: It connects as this client does.
            patience: Seconds that the server may be silent while an answer is due. What is large
                on its way there is given longer.
        """
        self._wire = _Wire(redis, hear=self._answered, lost=self._lost)
        self._opening = asyncio.Lock()
        self._patience = patience
        self._closed = False
        self._waiting: deque[tuple[asyncio.Future[Any], int]] = deque()
        """Whose answers are to come, and the bytes of their commands."""
        self._asked_at = 0.0
        self._bytes = 0
        self._limit: asyncio.TimerHandle | None = None

    async def execute_command(self, *words: Any) -> Any:
        """One command, a word each; its answer, text as ``str``.

        Raises:
            RedisError: It was refused; the server is away, or says nothing.
            OSError: Likewise.
        """
        command = _packed(words)
        try:
            return await self._call(command)
        except RedisConnectionError:
            if self._closed:
                raise
        return await self._call(command)

    async def _call(self, command: bytes) -> Any:
        if self._closed:
            raise RedisConnectionError("closed")
        if not self._wire.is_open:
            async with self._opening:
                if not self._wire.is_open:
                    await self._wire.open()
        loop = asyncio.get_running_loop()
        if not self._waiting:
            self._asked_at = loop.time()
        answer = loop.create_future()
        self._waiting.append((answer, len(command)))
        self._bytes += len(command)
        if self._limit is None:
            self._limit = loop.call_later(self._patience, self._look)
        self._wire.send(command)
        return await answer

    async def aclose(self) -> None:
        """Let go of the connection."""
        self._closed = True
        self._lost(RedisConnectionError("closed"))
        await self._wire.close()

    def _answered(self, answer: Any) -> None:
        waiting, size = self._waiting.popleft()
        self._bytes -= size
        if not waiting.done():
            if isinstance(answer, Exception):
                waiting.set_exception(answer)
            else:
                waiting.set_result(answer)
        if isinstance(answer, ReadOnlyError):  # it was the primary; its name may lead to another
            self._wire.break_off(answer)

    def _look(self) -> None:
        """See whether the server is silent. One timer for all calls: to set and to cancel one for
        each would cost more than what it guards.
        """
        self._limit = None
        if not self._waiting:
            return
        loop = asyncio.get_running_loop()
        since = max(self._asked_at, self._wire.heard_at)
        left = since + self._patience + self._bytes / _SLOWEST - loop.time()
        if left > 0:
            self._limit = loop.call_later(min(left, self._patience), self._look)
        else:
            silent = loop.time() - since
            self._wire.break_off(RedisTimeoutError(f"no answer within {round(silent, 1):g} s"))

    def _lost(self, error: RedisError) -> None:
        if self._limit is not None:
            self._limit.cancel()
            self._limit = None
        waiting, self._waiting, self._bytes = self._waiting, deque(), 0
        for each, _ in waiting:
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
            self._wire.send(_packed(("SUBSCRIBE", *channels)))
            await self._broken
        finally:
            self._broken = None
            await self._wire.close()

    def change(self, channel: str, *, heard: bool) -> None:
        """Hear one more, or no more of one, while it listens."""
        if self._wire.is_open:
            self._wire.send(_packed(("SUBSCRIBE" if heard else "UNSUBSCRIBE", channel)))

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
