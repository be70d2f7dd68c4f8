"""Events in Redis: a bounded stream for those who come late, a channel for those who listen."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self

from machine_lifecycle.lifecycle.events import Changed, Event, StepProgressed
from machine_lifecycle.states.names import MachineState
from machine_lifecycle.system.redis_keys import machine_events
from machine_lifecycle.system.tasks import end_tasks

if TYPE_CHECKING:
    from redis.asyncio import Redis

__all__ = ["EventStream"]

_KEPT = 24 * 3600
"""Seconds that a stream stays after its last event."""
_GATHER = 0.05
"""Seconds in which events gather, to go in one call: short jobs make hundreds a second."""
_LAST = 1.0
"""Seconds in which the last ones have to be sent."""
_log = logging.getLogger("machine_lifecycle.hooks")


class EventStream:
    """Adds each event to ``machine:{id}:events`` and publishes it there. An async context manager;
    an observer once it is entered.

    What happens before the queue is open, or while it is away, is kept and sent later, the newest
    *length* of it. Progress within a step is left out: it would push everything else out. The
    connection is its own: it outlives the machine's, and tells of the end as well.
    """

    def __init__(self, machine_id: str, url: Callable[[], str], length: int) -> None:
        """Nothing is sent yet; *url* tells where the queue is, empty while that is not known."""
        self._key = machine_events(machine_id)
        self._url = url
        self._length = length
        self._kept: deque[str] = deque(maxlen=length)
        self._redis: Redis | None = None
        self._sending: asyncio.Task[None] | None = None
        self._leaving = asyncio.Event()
        self._told = True
        """Whether it was said that events wait. Before the first one is taken, it is the boot that
        opens the queue and tells what is wrong with it."""
        self._ending = False
        """A queue of the machine's own ends before the last events."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._leaving.set()
        if self._sending is not None:
            await asyncio.wait({self._sending}, timeout=_LAST)
            await end_tasks(self._sending)
        if self._redis is not None:
            await self._redis.aclose()

    async def __call__(self, event: Event) -> None:
        """Send one event and what was kept, within a moment."""
        if isinstance(event, StepProgressed):
            return
        if isinstance(event, Changed) and event.target is MachineState.STOPPING:
            self._ending = True
        self._kept.append(json.dumps(event.to_wire(), separators=(",", ":")))
        if self._redis is None and (url := self._url()):
            from machine_lifecycle.system.redis import connect  # noqa: PLC0415 - 300 ms

            self._redis = connect(url)
        if self._redis is not None and (self._sending is None or self._sending.done()):
            self._sending = asyncio.create_task(self._send_all(self._redis), name="event stream")

    async def _send_all(self, redis: Redis) -> None:
        """Send what gathers until nothing is left, or the queue is away."""
        while self._kept:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_GATHER):
                    await self._leaving.wait()
            if not await self._send(redis):
                return

    async def _send(self, redis: Redis) -> bool:
        from redis.exceptions import RedisError  # noqa: PLC0415 - loaded by now

        waiting = tuple(self._kept)
        pipeline: Any = redis.pipeline(transaction=False)
        for text in waiting:
            pipeline.xadd(self._key, {"event": text}, maxlen=self._length, approximate=True)
            pipeline.publish(self._key, text)
        pipeline.expire(self._key, _KEPT)
        try:
            await pipeline.execute()
        except (RedisError, OSError) as error:
            if not (self._told or self._ending):
                _log.warning("events wait until Redis takes them: %s", error)
            self._told = True
            return False
        self._told = False
        for text in waiting:
            if self._kept and self._kept[0] is text:  # else newer ones have pushed it out
                self._kept.popleft()
        return True
