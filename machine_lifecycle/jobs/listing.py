"""Which jobs the queue knows, how many, and what it knows of each."""

from __future__ import annotations

import asyncio
from typing import Any

import attrs
from redis.exceptions import ResponseError

from machine_lifecycle.jobs.records import JobRecord, json_object, record_from_hash
from machine_lifecycle.system import redis_keys as keys
from machine_lifecycle.system.redis_line import Line

__all__ = ["job_ids", "numbers", "read_job"]


_CHUNK = 500
"""Ended jobs that are looked at in one call."""


async def read_job(redis: Any, job_id: str, line: Line | None = None) -> JobRecord | None:
    """What is known of a job; ``None`` for nothing. Over a line, if there is one.

    What is no record, as another party made it, reads as none; of one that was set aside for that,
    the reason is known.
    """
    asked = (
        ("HGETALL", keys.job(job_id)),
        ("HGETALL", keys.job_progress(job_id)),
        ("HGET", keys.COMPLETED, job_id),
    )
    if line is not None:
        calls = (line.execute_command(*words) for words in asked)
        # Where one fails, the others are waited for, too: none goes on by itself.
        answers: list[Any] = await asyncio.gather(*calls, return_exceptions=True)
    else:
        pipeline = redis.pipeline(transaction=False)
        for words in asked:
            pipeline.execute_command(*words)
        answers = await pipeline.execute(raise_on_error=False)
    fields, progress, done = _hash(answers[0]), _hash(answers[1]), answers[2]
    if isinstance(done, BaseException):
        raise done
    if not fields:
        reason = await redis.hget(keys.DEAD_REASONS, job_id)
        fields = {"status": "failed", "error": reason} if reason else {}
    if not fields:
        return None
    record = record_from_hash({**fields, "id": job_id}, progress)
    if done and record.status == "completed":
        record = attrs.evolve(record, result=json_object(done).get("data") or {})
    return record


def _hash(answer: Any) -> dict[str, str]:
    if isinstance(answer, ResponseError) and "WRONGTYPE" in str(answer):
        return {}
    if isinstance(answer, BaseException):
        raise answer
    if isinstance(answer, dict):
        return answer
    return dict(zip(answer[::2], answer[1::2], strict=True))


async def job_ids(redis: Any, status: str, limit: int) -> tuple[str, ...]:
    """Ids of jobs of a status, or of all: those that run, that wait, that ended; of each kind at
    most so many.
    """
    ids: Any = []
    if status in {"", "active", "assigned", "in_progress"}:
        ids += await _active_ids(redis)
    if status in {"", "pending"}:
        ids += await redis.zrevrange(keys.PENDING, 0, limit - 1)
        ids += await redis.zrange(keys.DELAYED, 0, limit - 1)
    for kind, where in (
        ("completed", f"{keys.COMPLETED}:at"),
        ("failed", f"{keys.FAILED}:at"),
        ("dead", keys.DEAD),
    ):
        if status == kind == "failed":
            ids += await _not_completed(redis, limit, cancelled=False)
        elif status in {"", kind}:
            ids += await redis.zrevrange(where, 0, limit - 1)
    if status == "cancelled":
        ids += await _not_completed(redis, limit, cancelled=True)
    return tuple(dict.fromkeys(ids))


async def _not_completed(redis: Any, limit: int, *, cancelled: bool) -> list[str]:
    """The newest of those that were cancelled, or of those that failed: they stand together."""
    found: list[str] = []
    start = 0
    while len(found) < limit:
        ids = await redis.zrevrange(f"{keys.FAILED}:at", start, start + _CHUNK - 1)
        if not ids:
            break
        start += len(ids)
        told = await redis.hmget(keys.FAILED, ids)
        found += [
            job_id
            for job_id, text in zip(ids, told, strict=True)
            if bool(json_object(text).get("cancelled")) is cancelled
        ]
    return found[:limit]


async def numbers(redis: Any) -> dict[str, int]:
    """How many there are of each kind."""
    pipeline = redis.pipeline(transaction=False)
    pipeline.zcard(keys.PENDING)
    pipeline.zcard(keys.DELAYED)
    pipeline.hlen(keys.COMPLETED)
    pipeline.hlen(keys.FAILED)
    pipeline.zcard(keys.DEAD)
    pending, delayed, completed, failed, dead = await pipeline.execute()
    return {
        "pending": pending,
        "delayed": delayed,
        "active": len(await _active_ids(redis)),
        "completed": completed,
        "failed": failed,
        "dead": dead,
    }


async def _active_ids(redis: Any) -> tuple[str, ...]:
    ids = await redis.zrange(keys.LEASES, 0, -1)
    for worker_id in sorted(await redis.smembers(keys.ACTIVE_WORKERS)):
        ids += await redis.hkeys(keys.active(worker_id))
    return tuple(dict.fromkeys(ids))
