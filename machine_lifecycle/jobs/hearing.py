"""What a worker listens to in Redis: hints that there is a job for it, and cancelled jobs."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

from redis.exceptions import RedisError

from machine_lifecycle.jobs.records import json_object
from machine_lifecycle.jobs.submission import INDEXED
from machine_lifecycle.jobs.worker_config import WorkerConfig
from machine_lifecycle.system import redis_keys as keys
from machine_lifecycle.system.redis import connect, spread
from machine_lifecycle.system.tasks import end_tasks

__all__ = ["Hearing"]

_FIRST_WAIT = 0.05
_LONGEST_WAIT = 1.0


class Hearing:
    """Keeps a subscription through restarts of Redis. What it hears is a hint: a claim decides.

    One worker of the fleet is its *ear*: it hears of jobs that other parties submit, which the
    queue's functions do not see, and has them put into the index.
    """

    def __init__(
        self,
        config: WorkerConfig,
        *,
        stir: Callable[[], None],
        cancelled: Callable[[str], None],
        adopt: Callable[[str], Awaitable[Any]],
    ) -> None:
        """Make it; it listens while ``run`` does.

        Args:
            config: Whose it is.
            stir: Called when there may be a job.
            cancelled: Called with the id of a job that is to be cancelled.
            adopt: Called with the id of a job that another party submitted.
        """
        self._url = config.redis_url
        self._wake = keys.wake(config.worker_id)
        self._stir = stir
        self._cancelled = cancelled
        self._adopt = adopt
        self._is_ear = False
        self._subscription: Any = None

    async def be_ear(self, *, ear: bool) -> None:
        """Listen to what other parties submit, or do so no more."""
        if ear != self._is_ear:
            self._is_ear = ear
            if self._subscription is not None:
                call = self._subscription.subscribe if ear else self._subscription.unsubscribe
                await call(keys.SUBMITTED)

    async def run(self) -> None:
        """Listen until cancelled."""
        wait = _FIRST_WAIT
        while True:
            redis = connect(self._url, blocking=True)
            subscription: Any = redis.pubsub(ignore_subscribe_messages=True)
            foreign: asyncio.Queue[str] = asyncio.Queue(1000)
            adopting = asyncio.create_task(self._adopt_all(foreign))
            try:
                names = [self._wake, keys.CANCEL, *([keys.SUBMITTED] if self._is_ear else [])]
                await subscription.subscribe(*names)
                self._subscription = subscription
                # Something may have come while nobody listened.
                self._stir()
                wait = _FIRST_WAIT
                async for message in subscription.listen():
                    self._hear(str(message["channel"]), str(message["data"]), foreign)
            except (RedisError, OSError):
                await asyncio.sleep(spread(wait))
                wait = min(wait * 2, _LONGEST_WAIT)
            finally:
                self._subscription = None
                await end_tasks(adopting)
                await subscription.aclose()
                await redis.aclose()

    def _hear(self, channel: str, data: str, foreign: asyncio.Queue[str]) -> None:
        if channel == self._wake:
            self._stir()
        elif channel == keys.CANCEL:
            self._cancelled(str(json_object(data).get("job_id", "")))
        elif not data.startswith(INDEXED):
            # Beyond the bound the queue's own search finds them.
            with contextlib.suppress(asyncio.QueueFull):
                foreign.put_nowait(str(json_object(data).get("job_id", "")))

    async def _adopt_all(self, foreign: asyncio.Queue[str]) -> None:
        while True:
            job_id = await foreign.get()
            with contextlib.suppress(RedisError, OSError):
                await self._adopt(job_id)
