"""Events in Redis: a bounded stream for those who come late, a channel for those who listen."""

from __future__ import annotations

import json
import logging
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self

from machine_lifecycle.lifecycle.events import Changed, Event, StepProgressed
from machine_lifecycle.states.names import MachineState
from machine_lifecycle.system.redis_keys import machine_events

if TYPE_CHECKING:
    from redis.asyncio import Redis

__all__ = ["EventStream"]

_KEPT = 24 * 3600
"""Seconds that a stream stays after its last event."""
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
        self._told = True
        """Whether it was said that events wait. Before the first one is taken, it is the boot that
        opens the queue and tells what is wrong with it."""
        self._ending = False
        """A queue of the machine's own ends before the last events."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._redis is not None:
            await self._redis.aclose()

    async def __call__(self, event: Event) -> None:
        """Send one event and what was kept; never raises for a queue that is away."""
        if isinstance(event, StepProgressed):
            return
        if isinstance(event, Changed) and event.target is MachineState.STOPPING:
            self._ending = True
        self._kept.append(json.dumps(event.to_wire(), separators=(",", ":")))
        if self._redis is None and (url := self._url()):
            from machine_lifecycle.system.redis import connect  # noqa: PLC0415 - 300 ms

            self._redis = connect(url)
        if self._redis is not None:
            await self._send(self._redis)

    async def _send(self, redis: Redis) -> None:
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
            return
        self._told = False
        for _ in waiting:
            self._kept.popleft()
