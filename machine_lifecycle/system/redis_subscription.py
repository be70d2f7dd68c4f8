"""What is published in Redis, heard for as long as somebody listens."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import NoReturn

from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from machine_lifecycle.system.redis import spread
from machine_lifecycle.system.redis_wire import Wire, packed

__all__ = ["Subscription"]

_FIRST_WAIT = 0.05
"""Seconds before the first try to connect again; each further wait is twice as long."""
_LONGEST_WAIT = 1.0
"""Seconds between two tries to connect; also how long it must have been heard to begin anew with
the first wait, so that a server which breaks each connection at once is not asked all the time.
"""


class Subscription:
    """Hears what is published on channels, over a connection of its own, and comes back after each
    break: Redis restarts, fails over, refuses the password for a while, or can't be reached.
    """

    def __init__(
        self,
        redis: Redis,
        channels: Iterable[str],
        *,
        hear: Callable[[str, bytes], None],
        ready: Callable[[], None],
        broken: Callable[[], None] = lambda: None,
        tries: int | None = None,
    ) -> None:
        """Make it; nothing is opened until ``run``.

        Args:
            redis: It connects as this client does.
            channels: What is heard from the beginning; see ``change``.
            hear: Takes the channel and the bytes of each message.
            ready: Called each time that the server has said that it will tell of all channels, at
                first, after a break and after a change. What was told before that is missed.
            broken: Called when the connection breaks, and when none can be made.
            tries: After so many of those in a row ``run`` gives up; ``None``: it never does.
        """
        self._wire = Wire(redis, hear=self._came, lost=self._lost)
        self._channels = dict.fromkeys(channels)
        self._unconfirmed: set[str] = set()
        self._hear = hear
        self._ready = ready
        self._broken = broken
        self._tries = tries
        self._ended: asyncio.Future[None] | None = None
        self._heard_since: float | None = None
        """When the server confirmed all channels, as the event loop counts."""

    def change(self, channel: str, *, heard: bool) -> None:
        """Hear one more, or no more of one; at once, and after each break."""
        if heard == (channel in self._channels):
            return
        if heard:
            self._channels[channel] = None
        else:
            del self._channels[channel]
            self._unconfirmed.discard(channel)
        if self._wire.is_open and heard:
            self._subscribe(channel)
        elif self._wire.is_open:
            self._wire.send(packed(("UNSUBSCRIBE", channel)))

    def is_unknown(self, at: float) -> None:
        """The server that publishes knew of nobody who listens here, at that time as the event loop
        counts. If one had confirmed that we do, it was another, such as the primary of before: we
        connect anew.
        """
        if self._heard_since is not None and self._heard_since < at:
            self._wire.break_off(RedisConnectionError("another server publishes"))

    async def run(self) -> NoReturn:
        """Hear until cancelled.

        Raises:
            RedisError: The server refuses, or stays away, and the tries are used up.
            OSError: Likewise.
        """
        failed, wait = 0, _FIRST_WAIT
        while True:
            self._heard_since = None
            try:
                await self._listen()
            except (RedisError, OSError):
                heard = self._heard_for()
                if heard is not None and heard > _LONGEST_WAIT:
                    wait = _FIRST_WAIT
                failed = failed + 1 if heard is None else 1
                self._broken()
                if failed == self._tries:
                    raise
            await asyncio.sleep(spread(wait))
            wait = min(wait * 2, _LONGEST_WAIT)

    def _heard_for(self) -> float | None:
        since = self._heard_since
        return None if since is None else asyncio.get_running_loop().time() - since

    async def _listen(self) -> None:
        """Hear what comes until the connection breaks, which is raised."""
        self._ended = asyncio.get_running_loop().create_future()
        try:
            await self._wire.open()
            self._wire.next_is(raw=True)
            self._subscribe(*self._channels)
            await self._ended
        finally:
            self._ended = None
            self._unconfirmed.clear()
            await self._wire.close()

    def _subscribe(self, *channels: str) -> None:
        self._unconfirmed.update(channels)
        self._wire.send(packed(("SUBSCRIBE", *channels)))

    def _came(self, answer: list[bytes] | RedisError) -> None:
        if isinstance(answer, RedisError):
            self._wire.break_off(answer)
        elif answer[0] == b"message":
            self._hear(answer[1].decode(errors="replace"), answer[2])
        elif answer[0] == b"subscribe":
            self._confirmed(answer[1].decode(errors="replace"))

    def _confirmed(self, channel: str) -> None:
        self._unconfirmed.discard(channel)
        if not self._unconfirmed:
            if self._heard_since is None:
                self._heard_since = asyncio.get_running_loop().time()
            self._ready()

    def _lost(self, error: RedisError) -> None:
        if self._ended is not None and not self._ended.done():
            self._ended.set_exception(error)
