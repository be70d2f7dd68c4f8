"""What a worker listens to in Redis: jobs for it, hints at jobs, and that jobs are cancelled."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from machine_lifecycle.jobs.records import json_object
from machine_lifecycle.jobs.submission import INDEXED
from machine_lifecycle.system import redis_keys as keys
from machine_lifecycle.system.redis_subscription import Subscription
from machine_lifecycle.system.tasks import end_tasks

__all__ = ["Hearing"]

_MOST = 1000
"""Jobs of other parties that wait to be put into the index; the queue's own search finds the rest.
"""


class Hearing:
    """What it hears is a hint: a claim decides. Jobs that are pushed were claimed for it already.

    One worker of the fleet is its *ear*: it hears of jobs that other parties submit, which the
    queue's functions do not see, and has them put into the index.
    """

    def __init__(
        self,
        redis: Redis,
        worker_id: str,
        *,
        stir: Callable[[], None],
        pushed: Callable[[str], None],
        ready: Callable[[], None],
        cancelled: Callable[[str], None],
        adopt: Callable[[str], Awaitable[Any]],
    ) -> None:
        """Make it; it listens while ``run`` does.

        Args:
            redis: It connects as this client does.
            worker_id: Whose it is.
            stir: Called when there may be a job.
            pushed: Called with a job that was pushed.
            ready: Called when it listens: something may have come while nobody did.
            cancelled: Called with the id of a job that is to be cancelled.
            adopt: Called with the id of a job that another party submitted.
        """
        self._wake = keys.wake(worker_id)
        self._stir = stir
        self._pushed = pushed
        self._cancelled = cancelled
        self._adopt = adopt
        self._subscription = Subscription(
            redis, (self._wake, keys.CANCEL), hear=self._hear, ready=ready
        )
        self._foreign: asyncio.Queue[str] = asyncio.Queue(_MOST)

    def be_ear(self, *, ear: bool) -> None:
        """Listen to what other parties submit, or do so no more."""
        self._subscription.change(keys.SUBMITTED, heard=ear)

    def is_unknown(self, at: float) -> None:
        """The queue did not know that we listen, at that time as the event loop counts."""
        self._subscription.is_unknown(at)

    async def run(self) -> None:
        """Listen until cancelled."""
        adopting = asyncio.create_task(self._adopt_all())
        try:
            await self._subscription.run()
        finally:
            await end_tasks(adopting)

    def _hear(self, channel: str, data: bytes) -> None:
        if channel == self._wake and b"\n" in data:
            self._pushed(data.decode(errors="replace"))
        elif channel == self._wake:
            self._stir()
        elif channel == keys.CANCEL:
            self._cancelled(str(json_object(data).get("job_id", "")))
        elif not data.startswith(INDEXED):
            with contextlib.suppress(asyncio.QueueFull):
                self._foreign.put_nowait(str(json_object(data).get("job_id", "")))

    async def _adopt_all(self) -> None:
        while True:
            job_id = await self._foreign.get()
            with contextlib.suppress(RedisError, OSError):
                await self._adopt(job_id)
