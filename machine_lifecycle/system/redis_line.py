"""Calls of hot loops: they go out as they are made, and answers come back in their order."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ReadOnlyError, RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from machine_lifecycle.system.redis_wire import Wire, packed

__all__ = ["Line"]

_T = TypeVar("_T")
_SLOWEST = 512 * 1024
"""Bytes a second at which what is large may crawl: 4 Mbit/s, a poor line to a server far away."""


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
        self._wire = Wire(redis, hear=self._answered, lost=self._lost)
        self._opening = asyncio.Lock()
        self._patience = patience
        self._closed = False
        self._waiting: deque[tuple[asyncio.Future[Any], int, bool]] = deque()
        """Whose answers are to come, the bytes of their commands, and who want bytes."""
        self._asked_at = 0.0
        self._bytes = 0
        self._limit: asyncio.TimerHandle | None = None

    async def execute_command(
        self,
        *words: Any,
        NEVER_DECODE: bool = False,  # noqa: N803 - redis-py's name for it
    ) -> Any:
        """One command, a word each; its answer, text as ``str``, or as ``bytes`` if that is asked.

        Raises:
            RedisError: It was refused; the server is away, or says nothing.
            OSError: Likewise.
        """
        return await self._mended(self._call, packed(words), NEVER_DECODE)

    async def transaction(self, *commands: tuple[Any, ...]) -> list[Any]:
        """Commands in one round trip; their answers. A server that refuses one when it comes does
        none of them.

        Raises:
            RedisError: One was refused, the first of them; the server is away, or says nothing.
            OSError: Likewise.
        """
        words = (("MULTI",), *commands, ("EXEC",))
        return await self._mended(self._call_all, b"".join(map(packed, words)), len(words))

    def is_asking(self) -> bool:
        """Whether an answer is due."""
        return bool(self._waiting)

    async def _mended(self, call: Callable[..., Awaitable[_T]], *args: Any) -> _T:
        try:
            return await call(*args)
        except RedisConnectionError:
            if self._closed:
                raise
        return await call(*args)

    async def _call(self, command: bytes, raw: bool) -> Any:  # noqa: FBT001 - private
        if not self._wire.is_open:
            await self._open()
        answer = self._expect(len(command), raw=raw)
        self._wire.send(command)
        return await answer

    async def _call_all(self, commands: bytes, number: int) -> list[Any]:
        if not self._wire.is_open:
            await self._open()
        expected = [self._expect(0) for _ in range(number - 1)]
        expected.append(self._expect(len(commands)))
        self._wire.send(commands)
        *said, done = await asyncio.gather(*expected, return_exceptions=True)
        answers: list[Any] = done if isinstance(done, list) else []
        for each in (*said, done, *answers):
            if isinstance(each, BaseException):
                raise each
        return answers

    async def _open(self) -> None:
        if self._closed:
            raise RedisConnectionError("closed")
        async with self._opening:
            if not self._wire.is_open:
                await self._wire.open()

    def _expect(self, size: int, *, raw: bool = False) -> asyncio.Future[Any]:
        """The answer to what is sent now, of so many bytes."""
        loop = asyncio.get_running_loop()
        if not self._waiting:
            self._asked_at = loop.time()
            self._wire.next_is(raw=raw)
        answer = loop.create_future()
        self._waiting.append((answer, size, raw))
        self._bytes += size
        if self._limit is None:
            self._limit = loop.call_later(self._patience, self._look)
        return answer

    async def aclose(self) -> None:
        """Let go of the connection."""
        self._closed = True
        self._lost(RedisConnectionError("closed"))
        await self._wire.close()

    def _answered(self, answer: Any) -> None:
        waiting, size, _ = self._waiting.popleft()
        self._bytes -= size
        if self._waiting:
            self._wire.next_is(raw=self._waiting[0][2])
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
        for each, _, _ in waiting:
            if not each.done():
                each.set_exception(type(error)(*error.args))
