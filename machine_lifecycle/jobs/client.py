"""The submitter's side of the queue."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from redis.exceptions import RedisError, ResponseError

from machine_lifecycle.errors import LifecycleError
from machine_lifecycle.jobs.brevity import brief
from machine_lifecycle.jobs.errors import JobIdTaken, JobNotFound, JobStateRefuses
from machine_lifecycle.jobs.listing import read_job
from machine_lifecycle.jobs.messages import Messages
from machine_lifecycle.jobs.oversize import Oversize, limits_of, suspected
from machine_lifecycle.jobs.oversize_errors import JobTooLarge
from machine_lifecycle.jobs.reading import JobReader
from machine_lifecycle.jobs.score import id_of_key
from machine_lifecycle.jobs.score import job_id as new_id
from machine_lifecycle.jobs.submission import Submission
from machine_lifecycle.jobs.unrunnable_errors import JobUnrunnable
from machine_lifecycle.model.redis_url import RedisUrl
from machine_lifecycle.system import redis_keys as keys
from machine_lifecycle.system.redis import as_lifecycle_error, check, connect
from machine_lifecycle.system.redis_foreign import name_foreign
from machine_lifecycle.system.redis_line import Line

__all__ = ["JobQueue", "open_job_queue"]

_SOON = 1.0
"""Seconds in which no successor of a worker has registered: its process takes longer to start."""


class JobQueue(JobReader):
    """Submits jobs, and looks at what becomes of them."""

    async def submit(
        self,
        payload: Mapping[str, Any],
        *,
        service_required: str,
        priority: int = 50,
        requirements: Mapping[str, Any] | None = None,
        customer_id: str = "",
        max_retries: int = 3,
        timeout_minutes: float | None = None,
        ctx: Mapping[str, Any] | None = None,
        workflow_id: str = "",
        workflow_priority: int | None = None,
        workflow_datetime: int | None = None,
        current_step: int | None = None,
        total_steps: int | None = None,
        job_id: str = "",
        idempotency_key: str = "",
    ) -> str:
        """Put a job into the queue; its id.

        Args:
            payload: What the service is to do; JSON values.
            service_required: The capability that is asked for.
            priority: 0 to 100; a higher one goes first.
            requirements: What the worker must have.
            customer_id: Whose job it is.
            max_retries: Runs it may take in all.
            timeout_minutes: Minutes one run may take; ``None`` for the worker's own limit.
            ctx: Passed on to the connector untouched.
            workflow_id: The workflow it is a step of.
            workflow_priority: Overrules ``priority``, so that steps of one workflow stay together.
            workflow_datetime: Milliseconds since 1970 when the workflow was submitted.
            current_step: Which step it is, and
            total_steps: how many there are.
            job_id: An id of your own: submitting it twice is submitting it once.
            idempotency_key: Likewise, where your name for it is not fit to be an id: as long as the
                queue remembers the job, submitting the key again gives the id of that job.

        Raises:
            JobIdTaken: There is a job of that id or key, which asks for something else.
            JobTooLarge: It is more than the server takes at once; nothing is kept of it.
            JobUnrunnable: It is no JSON, or its requirements make no sense; nothing is kept of it.
        """
        now = time.time_ns() // 1_000_000
        job = Submission(
            job_id=job_id or id_of_key(idempotency_key) or new_id(now),
            now=now,
            payload=payload,
            service_required=service_required,
            priority=priority,
            requirements=requirements,
            customer_id=customer_id,
            max_retries=max_retries,
            timeout_minutes=timeout_minutes,
            ctx=ctx,
            workflow_id=workflow_id,
            workflow_priority=workflow_priority,
            workflow_datetime=workflow_datetime,
            current_step=current_step,
            total_steps=total_steps,
        )
        said = await self._put(job)
        if said.startswith("refused "):
            raise _refusal("", said, "submitted")
        if said == "known":
            known = await read_job(self._redis, job.job_id)
            if known is None or not job.asks_as(known):  # none: another thing has that name
                raise JobIdTaken(job_id=job.job_id)
        return job.job_id

    async def _put(self, job: Submission) -> str:
        oversize = Oversize(self._functions)
        while True:
            try:
                return str(await self._functions.call("ml1_submit", *job.words()))
            except (RedisError, OSError) as error:
                if not suspected([job], error):
                    raise
                if await oversize.found(job, error):
                    limits = await limits_of(self._redis)
                    raise JobTooLarge(size=job.weight, limits=limits, said=str(error)) from error

    async def cancel(self, job_id: str, reason: str = "cancelled by the user") -> str:
        """Cancel a job: ``cancelled`` if it waited, ``cancelling`` if its worker was told. Either
        is final: a result that comes after it is dropped.

        Raises:
            JobNotFound: There is none.
            JobStateRefuses: It has ended.
        """
        said = str(await self._functions.call("ml1_cancel", job_id, brief(reason)))
        if said not in {"cancelled", "cancelling"}:
            raise _refusal(job_id, said, "cancelled")
        return said

    async def retry(self, job_id: str) -> None:
        """Run a failed or cancelled job once more, in the place it had.

        Raises:
            JobNotFound: There is none.
            JobStateRefuses: It has not ended, or ended well; or it has no record.
            JobUnrunnable: It was set aside again, since nobody can ever run it.
        """
        said = str(await self._functions.call("ml1_retry", job_id))
        if said != "ok":
            raise _refusal(job_id, said, "tried again")

    async def drain(self, machine_id: str) -> int:
        """Let a machine take no further job, from this moment on; what runs there ends. It lasts
        until ``undrain``, over restarts of the machine too; how many workers were told.
        """
        return int(await self._functions.call("ml1_drain", machine_id, 1))

    async def undrain(self, machine_id: str) -> int:
        """Let a machine take jobs again; how many workers were told."""
        return int(await self._functions.call("ml1_drain", machine_id, 0))

    async def release_worker(
        self, worker_id: str, reason: str, *, pid: int | None = None
    ) -> tuple[str, ...]:
        """Put back what a worker held that is known to be dead; the ids of its jobs. For the one
        who saw it die; others wait for its lease to end.

        Args:
            worker_id: Which worker.
            reason: In words.
            pid: Of the process that died: what its successor holds is left to that.

        Raises:
            TimeoutError: No *pid* is known, and Redis does not answer within a second: by the time
                that it does, these may be jobs of the worker's successor.
        """
        async with asyncio.timeout(_SOON if pid is None else None):
            asked = ("HMGET", keys.worker(worker_id), "connected_at", "pid")
            since, living = await self._redis.execute_command(*asked)
        if pid is not None and living and living != str(pid):
            return ()
        return tuple(await self._functions.call("ml1_recover", worker_id, reason, since or ""))


@asynccontextmanager
async def open_job_queue(url: str) -> AsyncIterator[JobQueue]:
    """The queue at an address, for who submits and watches jobs; closed at the end.

    Args:
        url: As ``HUB_REDIS_URL`` takes it.

    Raises:
        ValueError: It is no address; the words tell why, and hold no password.
        RedisUnreachable: It does not answer, also later.
        RedisRefuses: It answers, and does not do what it is asked.
        RedisKeyForeign: Something else stands in the place of one of the queue's keys.
        RedisAuth: It refuses the user or the password.
        RedisCertificate: Its certificate is not trusted.
        RedisTooOld: It has no Functions.
    """
    redis = connect(url)
    line = Line(redis)
    try:
        await check(redis, url)
        async with Messages(redis) as messages:
            yield JobQueue(redis, line, messages)
    except JobTooLarge as error:
        error.cli = RedisUrl.parse(url).cli
        raise
    except ResponseError as error:
        raise as_lifecycle_error(await name_foreign(line.execute_command, error), url) from error
    except RedisError as error:  # another OSError is of what the caller does meanwhile
        raise as_lifecycle_error(error, url) from error
    finally:
        await line.aclose()
        await redis.aclose()


def _refusal(job_id: str, status: str, asked: str) -> LifecycleError:
    word, _, reason = status.partition(" ")
    if word in {"dead", "refused"}:
        return JobUnrunnable(job_id=job_id, reason=reason)
    if status == "unknown":
        return JobNotFound(job_id=job_id)
    known = "without a record" if status == "no record" else status.removeprefix("ended ")
    return JobStateRefuses(job_id=job_id, status=known, asked=asked)
