"""What Redis says of workers, for those who only look."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from machine_lifecycle.system import redis_keys as keys

__all__ = ["living_workers"]

_LIMIT = 5.0
"""Seconds that Redis may take to tell of all workers."""


async def living_workers(
    redis: Redis, ids: tuple[str, ...]
) -> Mapping[str, Mapping[str, Any]] | None:
    """The facts of those workers that gave a sign of life lately, by id.

    Args:
        redis: A client.
        ids: Whose facts are wanted.

    Returns:
        ``None`` if Redis does not answer within 5 s.
    """
    pipeline: Any = redis.pipeline(transaction=False)
    for worker in ids:
        pipeline.exists(keys.heartbeat(worker))
        pipeline.hgetall(keys.worker(worker))
    pipeline.ping()  # with no worker, too, it is told whether Redis answers
    try:
        async with asyncio.timeout(_LIMIT):
            answers = await pipeline.execute()
    except (RedisError, OSError, TimeoutError):
        return None
    pairs = zip(ids, answers[0:-1:2], answers[1:-1:2], strict=True)
    return {worker: facts for worker, alive, facts in pairs if alive}
