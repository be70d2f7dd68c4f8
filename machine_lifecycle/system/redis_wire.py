"""The stream of a connection to Redis, taken over from redis-py.

redis-py spends several times as much on a call as the network does (a PING after a pause: 540 µs
against 190 µs). It still makes the connection, with all that belongs to that: password, TLS,
Sentinels. Then its stream is taken over, and hiredis alone reads and writes it.
"""

from __future__ import annotations

import asyncio
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

__all__ = ["Wire", "packed"]

_NOTHING = object()
_CLOSED = "Connection closed by server."
_REFUSALS: dict[str, type[RedisError]] = {
    "LOADING": BusyLoadingError,
    "READONLY": ReadOnlyError,
    "MASTERDOWN": MasterDownError,
    "CLUSTERDOWN": ClusterDownError,
    "TRYAGAIN": TryAgainError,
}


def _refusal(text: str) -> RedisError:
    return _REFUSALS.get(text.partition(" ")[0], ResponseError)(text)


def packed(words: tuple[Any, ...]) -> bytes:
    """A command as it goes over the stream."""
    pack: Callable[[tuple[Any, ...]], bytes] = hiredis.pack_command
    try:
        return pack(words)
    except UnicodeEncodeError:  # half of a character, which JSON may hold
        whole = (word.encode(errors="replace") if isinstance(word, str) else word for word in words)
        return pack(tuple(whole))


class Wire(asyncio.Protocol):
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
        self._raw = False
        self.heard_at: float = 0.0
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
        self._raw = False
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

    def next_is(self, *, raw: bool) -> None:
        """Read the next answer as bytes, or as text."""
        if raw != self._raw:
            self._raw = raw
            self._reader.set_encoding(None if raw else "utf-8", "replace")

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
