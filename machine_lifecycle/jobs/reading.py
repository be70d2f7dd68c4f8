"""The side of the queue of who looks at jobs, and waits for them."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, aclosing, nullcontext
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from machine_lifecycle.jobs.errors import JobNotFound, JobStateRefuses
from machine_lifecycle.jobs.functions import QueueFunctions
from machine_lifecycle.jobs.listing import job_ids, known_job, numbers, read_job
from machine_lifecycle.jobs.messages import Messages
from machine_lifecycle.jobs.outputs import fetch, with_files
from machine_lifecycle.jobs.records import JobEvent, JobRecord
from machine_lifecycle.jobs.watching import result_of, watch
from machine_lifecycle.jobs.why import Why, why_from_answer
from machine_lifecycle.model.jobs import JobResult, Output
from machine_lifecycle.system.redis_line import Line

__all__ = ["JobReader"]


class JobReader:
    """Looks at jobs, and follows them to their end."""

    def __init__(
        self, redis: Redis, line: Line | None = None, messages: Messages | None = None
    ) -> None:
        """Make it. ``open_job_queue`` does, for an address.

        Args:
            redis: Where the queue is.
            line: A quicker way there, which all calls go if it is given.
            messages: Hears of jobs; without it each ``watch`` listens by itself.
        """
        self._client = redis
        self._redis: Any = line or redis  # as redis-py types it, every answer is text or bytes
        self._functions = QueueFunctions(self._redis)
        self._messages = messages

    async def get(self, job_id: str) -> JobRecord:
        """Everything known of a job.

        Raises:
            JobNotFound: It never was, or was forgotten (24 hours after it completed).
        """
        return await known_job(self._redis, job_id)

    async def list(self, *, status: str = "", limit: int = 50) -> tuple[JobRecord, ...]:
        """Jobs, those that run first, then those that wait in the order in which they will run,
        then those that ended, newest first.

        Args:
            status: Only these: ``active``, ``pending``, ``completed``, ``failed``, ``cancelled``
                or ``dead``.
            limit: At most so many of each kind.
        """
        if limit < 1:
            return ()
        ids = await job_ids(self._redis, status, limit)
        found = [await read_job(self._redis, job_id) for job_id in ids]
        return tuple(record for record in found if record)

    async def counts(self) -> dict[str, int]:
        """Numbers of jobs: ``pending``, ``delayed``, ``active``, ``completed`` (last 24 hours),
        ``failed`` (last 7 days) and ``dead``.
        """
        return await numbers(self._redis)

    async def why(self, job_id: str) -> Why:
        """Why a job does not run: what each kind of living worker lacks for it.

        Raises:
            JobNotFound: There is none.
        """
        answer = await self._functions.call("ml1_why", job_id)
        if answer[0] == "unknown":
            raise JobNotFound(job_id=job_id)
        return why_from_answer(answer)

    async def watch(
        self, job_id: str, *, previews: bool = False, replay: bool = False
    ) -> AsyncGenerator[JobEvent, None]:
        """Everything that happens to a job, from its present state to its end; with *previews* also
        pictures of what it is about to make, a few each second, which are sent only to who asks.
        With *replay* it begins with what has happened already: the last two hundred steps, which
        are kept for an hour after the end.

        Raises:
            JobNotFound: There is no such job.
        """
        async with self._listening() as messages:
            events = watch(self._redis, messages, job_id, previews=previews, replay=replay)
            async with aclosing(events):
                async for event in events:
                    yield event

    async def result(self, job_id: str) -> JobResult:
        """Wait for the end of a job; what it made, with its files, as of ``outputs``.

        Raises:
            JobDidNotComplete: It failed, or was cancelled.
            JobNotFound: There is no such job.
            OutputUnreadable: As of ``outputs``.
        """
        async with self._listening() as messages:
            result, files = await result_of(self._redis, messages, job_id)
        return with_files(result, await fetch(self._bytes, result, files))

    async def outputs(self, job: str | JobRecord) -> tuple[Output, ...]:
        """The files that a completed job made. Those over 8 MiB that no store keeps, and those of a
        store out of reach, come as a reference, without bytes.

        Args:
            job: Its id; or its record, which the last event of ``watch`` brings.

        Raises:
            OutputUnreadable: The store has lost one, or does not give it.
            JobNotFound: There is no such job.
            JobStateRefuses: It has not completed.
        """
        record = job if isinstance(job, JobRecord) else await self.get(job)
        if record.result is None:
            raise JobStateRefuses(job_id=record.id, status=record.status, asked="read")
        return await fetch(self._bytes, record.result)

    def _listening(self) -> AbstractAsyncContextManager[Messages]:
        return nullcontext(self._messages) if self._messages else Messages(self._client)

    async def _bytes(self, key: str) -> bytes | None:
        try:
            # What is read is text, else; an output is bytes.
            found: bytes | None = await self._redis.execute_command("GET", key, NEVER_DECODE=True)
        except ResponseError as error:
            if "WRONGTYPE" not in str(error):
                raise
            return None  # another party has named it, or put something else there
        return found
