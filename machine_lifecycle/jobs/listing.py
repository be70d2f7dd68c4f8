"""Which jobs the queue knows, how many, and what it knows of each.

*redis* is a client, or a ``Line``: these differ in the form in which lists come, and nobody here
minds it.
"""

from __future__ import annotations

import asyncio
from typing import Any

import attrs
from redis.exceptions import ResponseError

from machine_lifecycle.jobs.errors import JobNotFound
from machine_lifecycle.jobs.records import JobRecord, json_object, record_from_hash
from machine_lifecycle.system import redis_keys as keys

__all__ = ["hash_of", "job_ids", "known_job", "numbers", "read_job"]

_CHUNK = 500
"""Ended jobs that are looked at in one call."""


async def read_job(redis: Any, job_id: str) -> JobRecord | None:
    """What is known of a job; ``None`` for nothing.

    What is no record, as another party made it, reads as none; of one that was set aside for that,
    the reason is known.
    """
    record, steps, done = await _all(
        redis,
        ("HGETALL", keys.job(job_id)),
        ("HGETALL", keys.job_progress(job_id)),
        ("HGET", keys.COMPLETED, job_id),
    )
    fields, progress = _record(record), _record(steps)
    if isinstance(done, BaseException):
        raise done
    if not fields:
        reason = await redis.execute_command("HGET", keys.DEAD_REASONS, job_id)
        fields = {"status": "failed", "error": reason} if reason else {}
    if not fields:
        return None
    job = record_from_hash({**fields, "id": job_id}, progress)
    if done and job.status == "completed":
        data = json_object(done).get("data") or {}
        job = attrs.evolve(job, result=data if isinstance(data, dict) else {"data": data})
    return job


async def known_job(redis: Any, job_id: str) -> JobRecord:
    """What is known of a job.

    Raises:
        JobNotFound: There is none.
    """
    found = await read_job(redis, job_id)
    if found is None:
        raise JobNotFound(job_id=job_id)
    return found


def hash_of(answer: Any) -> dict[str, str]:
    """A hash, or the fields of a stream's entry, in either form."""
    if isinstance(answer, dict):
        return answer
    return dict(zip(answer[::2], answer[1::2], strict=True))


def _record(answer: Any) -> dict[str, str]:
    if isinstance(answer, ResponseError) and "WRONGTYPE" in str(answer):
        return {}
    if isinstance(answer, BaseException):
        raise answer
    return hash_of(answer)


async def _all(redis: Any, *asked: tuple[Any, ...]) -> list[Any]:
    """Answers, or the errors in their place: where one fails, the others are waited for, too, so
    that none goes on by itself.
    """
    calls = (redis.execute_command(*words) for words in asked)
    return await asyncio.gather(*calls, return_exceptions=True)


async def job_ids(redis: Any, status: str, limit: int) -> tuple[str, ...]:
    """Ids of jobs of a status, or of all: those that run, that wait, that ended; of each kind at
    most so many.
    """
    ids: Any = []
    if status in {"", "active", "assigned", "in_progress"}:
        ids += await _active_ids(redis)
    if status in {"", "pending"}:
        ids += await redis.execute_command("ZREVRANGE", keys.PENDING, 0, limit - 1)
        ids += await redis.execute_command("ZRANGE", keys.DELAYED, 0, limit - 1)
    for kind, where in (
        ("completed", f"{keys.COMPLETED}:at"),
        ("failed", f"{keys.FAILED}:at"),
        ("dead", keys.DEAD),
    ):
        if status == kind == "failed":
            ids += await _not_completed(redis, limit, cancelled=False)
        elif status in {"", kind}:
            ids += await redis.execute_command("ZREVRANGE", where, 0, limit - 1)
    if status == "cancelled":
        ids += await _not_completed(redis, limit, cancelled=True)
    return tuple(dict.fromkeys(ids))


async def _not_completed(redis: Any, limit: int, *, cancelled: bool) -> list[str]:
    """The newest of those that were cancelled, or of those that failed: they stand together."""
    found: list[str] = []
    start = 0
    while len(found) < limit:
        ids = await redis.execute_command(
            "ZREVRANGE", f"{keys.FAILED}:at", start, start + _CHUNK - 1
        )
        if not ids:
            break
        start += len(ids)
        told = await redis.execute_command("HMGET", keys.FAILED, *ids)
        found += [
            job_id
            for job_id, text in zip(ids, told, strict=True)
            if bool(json_object(text).get("cancelled")) is cancelled
        ]
    return found[:limit]


async def numbers(redis: Any) -> dict[str, int]:
    """How many there are of each kind."""
    counted = await _all(
        redis,
        ("ZCARD", keys.PENDING),
        ("ZCARD", keys.DELAYED),
        ("HLEN", keys.COMPLETED),
        ("HLEN", keys.FAILED),
        ("ZCARD", keys.DEAD),
    )
    for each in counted:
        if isinstance(each, BaseException):
            raise each
    pending, delayed, completed, failed, dead = counted
    return {
        "pending": pending,
        "delayed": delayed,
        "active": len(await _active_ids(redis)),
        "completed": completed,
        "failed": failed,
        "dead": dead,
    }


async def _active_ids(redis: Any) -> tuple[str, ...]:
    ids = list(await redis.execute_command("ZRANGE", keys.LEASES, 0, -1))
    for worker_id in sorted(await redis.execute_command("SMEMBERS", keys.ACTIVE_WORKERS)):
        ids += await redis.execute_command("HKEYS", keys.active(worker_id))
    return tuple(dict.fromkeys(ids))
