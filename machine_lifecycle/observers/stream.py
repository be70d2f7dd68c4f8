"""Events in Redis: a bounded stream for those who come late, a channel for those who listen."""

from __future__ import annotations

import json
import logging
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from machine_lifecycle.lifecycle.events import Event, StepProgressed
from machine_lifecycle.system.redis_keys import machine_events

if TYPE_CHECKING:
    from redis.asyncio import Redis

__all__ = ["EventStream"]

_KEPT = 24 * 3600
"""Seconds that a stream stays after its last event."""
_log = logging.getLogger("machine_lifecycle.hooks")


class EventStream:
    """Adds each event to ``machine:{id}:events`` and publishes it there; an observer.

    What happens before the queue is open, or while it is away, is kept and sent later, the newest
    *length* of it. Progress within a step is left out: it would push everything else out.
    """

    def __init__(self, machine_id: str, client: Callable[[], Redis | None], length: int) -> None:
        """Nothing is sent yet; *client* gives the connection, ``None`` while there is none."""
        self._key = machine_events(machine_id)
        self._client = client
        self._length = length
        self._kept: deque[str] = deque(maxlen=length)
        self._told = False

    async def __call__(self, event: Event) -> None:
        """Send one event and what was kept; never raises for a queue that is away."""
        if isinstance(event, StepProgressed):
            return
        self._kept.append(json.dumps(event.to_wire(), separators=(",", ":")))
        client = self._client()
        if client is None:
            return
        from redis.exceptions import RedisError  # noqa: PLC0415 - loaded with the client

        waiting = tuple(self._kept)
        pipeline: Any = client.pipeline(transaction=False)
        for text in waiting:
            pipeline.xadd(self._key, {"event": text}, maxlen=self._length, approximate=True)
            pipeline.publish(self._key, text)
        pipeline.expire(self._key, _KEPT)
        try:
            await pipeline.execute()
        except (RedisError, OSError) as error:
            if not self._told:
                _log.warning("events wait until Redis takes them: %s", error)
            self._told = True
            return
        self._told = False
        for _ in waiting:
            self._kept.popleft()
