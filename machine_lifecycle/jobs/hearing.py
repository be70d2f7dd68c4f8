"""What a worker listens to in Redis: new jobs, jobs that come back, cancelled ones."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from redis.exceptions import RedisError

from machine_lifecycle.jobs.records import json_object
from machine_lifecycle.jobs.worker_config import WorkerConfig
from machine_lifecycle.system import redis_keys as keys
from machine_lifecycle.system.redis import connect

__all__ = ["Hearing"]

_FIRST_WAIT = 0.05
_LONGEST_WAIT = 1.0


class Hearing:
    """Keeps a subscription through restarts of Redis. What it hears is a hint: a claim decides."""

    def __init__(
        self,
        config: WorkerConfig,
        *,
        stir: Callable[[float], None],
        cancelled: Callable[[str], None],
    ) -> None:
        """Make it; it listens while ``run`` does.

        Args:
            config: Whose it is.
            stir: Called when there may be a job, with the wall-clock milliseconds from which on,
                or 0 for now.
            cancelled: Called with the id of a job that is to be cancelled.
        """
        self._url = config.redis_url
        self._asks = {route.asks for route in config.routes}
        self._stir = stir
        self._cancelled = cancelled

    async def run(self) -> None:
        """Listen until cancelled."""
        wait = _FIRST_WAIT
        while True:
            redis = connect(self._url, blocking=True)
            subscription = redis.pubsub(ignore_subscribe_messages=True)
            try:
                await subscription.subscribe(keys.SUBMITTED, keys.WAKE, keys.CANCEL)
                # Something may have come while nobody listened.
                self._stir(0)
                wait = _FIRST_WAIT
                async for message in subscription.listen():
                    self._hear(str(message["channel"]), str(message["data"]))
            except (RedisError, OSError):
                await asyncio.sleep(wait)
                wait = min(wait * 2, _LONGEST_WAIT)
            finally:
                await subscription.aclose()  # type: ignore[no-untyped-call]  # no types there
                await redis.aclose()

    def _hear(self, channel: str, data: str) -> None:
        facts = json_object(data)
        if channel == keys.CANCEL:
            self._cancelled(str(facts.get("job_id", "")))
        elif facts.get("service_required") in self._asks:
            self._stir(float(facts.get("due") or 0))
