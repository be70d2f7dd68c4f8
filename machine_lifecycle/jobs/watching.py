"""Following one job: messages are listened for before its state is read: nothing is missed."""

from __future__ import annotations

import asyncio
import bisect
import shlex
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from redis.exceptions import ResponseError

from machine_lifecycle.jobs.listing import hash_of, known_job
from machine_lifecycle.jobs.messages import Messages, Told
from machine_lifecycle.jobs.records import TERMINAL, JobEvent, JobRecord, integer, number
from machine_lifecycle.jobs.result_errors import JobDidNotComplete
from machine_lifecycle.system import redis_keys as keys

__all__ = ["result_of", "watch"]

_LOOK = 5.0
"""Seconds without a message of the job after which its state is read: messages are not delivered
twice, and a party that writes without telling is not to hang us."""
_KINDS = {"assigned": "claimed", "in_progress": "progress", "timeout": "failed"}


async def watch(
    redis: Any, messages: Messages, job_id: str, *, previews: bool = False, replay: bool = False
) -> AsyncGenerator[JobEvent, None]:
    """Yield what happens to a job until it ends; pictures of it, too, if they are asked for, and
    first what has happened, if that is.

    Raises:
        JobNotFound: There is no such job.
    """
    async with messages.of(job_id, previews=previews) as heard:
        record = await known_job(redis, job_id)
        for step in await _past(redis, record) if replay else ():
            yield step
        yield _snapshot(record)
        percent, clock = record.progress, asyncio.get_running_loop().time
        look = clock() + _LOOK
        while not record.ended:
            told = await heard.next(max(0.0, look - clock()))
            if told is not None and told.preview is not None:
                yield JobEvent(kind="preview", job_id=job_id, percent=percent, preview=told.preview)
                continue
            look = clock() + _LOOK
            event = _event(told, percent) if told is not None else None
            if event is not None:
                percent = event.percent
                yield event
                continue
            record = await known_job(redis, job_id)
            if record.ended:
                heard.over()
                yield _snapshot(record)


async def result_of(
    redis: Any, messages: Messages, job_id: str
) -> tuple[Mapping[str, Any], Mapping[str, bytes]]:
    """Wait for the end of a job; its result, as the queue keeps it, and those of its files that
    came with it, by their keys.

    Raises:
        JobNotFound: There is no such job.
        JobDidNotComplete: It failed, or was cancelled.
    """
    async with messages.of(job_id, files=True) as heard:
        while True:
            record = await known_job(redis, job_id)
            if record.ended:
                heard.over()
            if record.result is not None:
                return record.result, heard.files
            if record.ended:
                raise JobDidNotComplete(job_id=job_id, status=record.status, reason=record.error)
            told = await heard.next(_LOOK)
            while told is not None and _event(told, 0) is not None:
                told = await heard.next(_LOOK)
            if told is not None and told.channel == keys.COMPLETE_CHANNEL:
                # As it was written: its record need not be read. Other parties tell less, and so
                # does the queue of what is large.
                result = told.facts.get("result")
                if isinstance(result, dict) and "output_files" in result:
                    return result, heard.files


async def _past(redis: Any, record: JobRecord) -> list[JobEvent]:
    """The steps that are kept: the last two hundred, for an hour after the end. The end itself is
    told by the record; so is the beginning of a run of which no step is kept.
    """
    try:
        kept = await redis.execute_command("XRANGE", keys.progress_stream(record.id), "-", "+")
    except ResponseError as error:
        if "WRONGTYPE" not in str(error):
            raise
        kept = ()  # another party has put something else there
    steps = [
        JobEvent(
            kind=_KINDS.get(fields["status"], "retrying"),
            job_id=record.id,
            percent=number(fields.get("progress"), 0.0),
            message=fields.get("message", ""),
            worker_id=fields.get("worker_id", ""),
            at=integer(fields.get("timestamp"), 0),
        )
        for fields in (hash_of(told) for _, told in kept)
        if fields.get("status", "completed") not in TERMINAL  # without one it is no step
    ]
    began = record.assigned_ms
    if began and not any(step.kind == "claimed" and step.at == began for step in steps):
        begin = JobEvent(kind="claimed", job_id=record.id, worker_id=record.worker_id, at=began)
        steps.insert(bisect.bisect_left(steps, began, key=lambda step: step.at), begin)
    return steps


def _snapshot(record: JobRecord) -> JobEvent:
    kind = _KINDS.get(record.status, record.status)
    return JobEvent(
        kind="submitted" if kind in {"pending", "unworkable"} else kind,
        job_id=record.id,
        percent=100 if kind == "completed" else record.progress,
        message=_words(kind, record),
        worker_id=record.worker_id,
        job=record,
    )


def _words(kind: str, record: JobRecord) -> str:
    if kind == "unworkable":
        why = f"machine-lifecycle jobs why {shlex.quote(record.id)}"
        return f"no living worker can run it; see why: {why}"
    # What an earlier run failed of is no news of one that completed.
    return record.message if kind == "completed" else record.error or record.message


def _event(told: Told, percent: float) -> JobEvent | None:
    """A message as an event; ``None`` if the job may have ended, so that its record is read."""
    channel, facts = told.channel, told.facts
    job_id, worker = str(facts["job_id"]), str(facts.get("worker_id", ""))
    if channel == keys.CLAIMED:
        return JobEvent(kind="claimed", job_id=job_id, worker_id=worker)
    if channel == keys.PROGRESS_CHANNEL:
        return JobEvent(
            kind="progress",
            job_id=job_id,
            percent=number(facts.get("progress"), percent),
            message=str(facts.get("message", "")),
            step=integer(facts.get("current_step"), 0),
            steps=integer(facts.get("total_steps"), 0),
            worker_id=worker,
        )
    if channel == keys.ENDED and facts.get("status") == "retrying":
        return JobEvent(
            kind="retrying", job_id=job_id, percent=percent, message=str(facts.get("reason", ""))
        )
    return None
