"""How a run's end is written down: complete, fail, give back. All of it survives a Redis that is
away for a while, and none of it is written for a job that is no longer ours.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

from redis.exceptions import ResponseError

from machine_lifecycle.errors import LifecycleError
from machine_lifecycle.jobs import outputs
from machine_lifecycle.jobs.brevity import brief, brief_error
from machine_lifecycle.jobs.claims import Claimed
from machine_lifecycle.jobs.errors import JobCrashed
from machine_lifecycle.jobs.functions import QueueFunctions
from machine_lifecycle.jobs.outcomes import UNWRITTEN, Outcome, refusal
from machine_lifecycle.jobs.oversize_errors import ResultTooLarge
from machine_lifecycle.jobs.retrying import AWAY, passing, verdict
from machine_lifecycle.jobs.worker_config import WorkerConfig
from machine_lifecycle.model.jobs import JobResult
from machine_lifecycle.system import json_codec
from machine_lifecycle.system import redis_keys as keys
from machine_lifecycle.system.redis import spread
from machine_lifecycle.system.redis_keys import iso

__all__ = ["Settler"]

_LONGEST_WAIT = 1.0
_LARGEST = 64 * 1024 * 1024
"""Bytes of a result as JSON. It goes thrice into one call, and a server takes 512 MiB in a word and
1 GiB in all (``proto-max-bulk-len`` and ``client-query-buffer-limit`` of redis.conf): beyond that
it ends the connection.
"""


class Settler:
    """Writes the outcome of runs, over and over until Redis has it."""

    def __init__(
        self,
        functions: QueueFunctions,
        config: WorkerConfig,
        *,
        hindered: Callable[[Exception | None], None],
    ) -> None:
        """Make it.

        Args:
            functions: The queue.
            config: Whose it is.
            hindered: Told what keeps an outcome from being written, for now; ``None``: nothing.
        """
        self._functions = functions
        self._config = config
        self._hindered = hindered

    def result(
        self,
        claimed: Claimed,
        result: JobResult,
        *,
        service: str,
        seconds: float,
        answered: Callable[[str], None],
    ) -> Outcome:
        """A result as the exchange takes it.

        Args:
            claimed: The job, with the fence of this run.
            result: What came out.
            service: Which service did it.
            seconds: How long it took.
            answered: Called with ``ok`` or ``lost``.

        Raises:
            JobCrashed: The connector's result is no JSON, or holds other things than it should.
            ResultTooLarge: It is more than a call may hold.
        """
        milliseconds = round(seconds * 1000)
        try:
            facts = outputs.result_metadata(
                claimed.id, result, service=service, milliseconds=milliseconds
            )
            text, raw = json_codec.encode(facts), json_codec.encode(facts["data"])
        except (TypeError, ValueError, AttributeError, RecursionError) as error:
            raise JobCrashed(
                job_id=claimed.id, kind=type(error).__name__, message=str(error)
            ) from error
        if len(text) > _LARGEST:
            raise ResultTooLarge(job_id=claimed.id, size=len(text), most=_LARGEST)
        now = _now()
        proof = claimed.attestation(
            **self._who(now),
            status="completed",
            completed_at=iso(now),
            result=text,
            raw_service_output=raw,
        )
        name = keys.attestation(claimed.id, claimed.workflow_id)
        key = f"worker:completion:{name}:attempt:{claimed.retry_count + 1}"
        return Outcome(
            (claimed.id, claimed.fence, text, proof, key, milliseconds, service),
            answered,
            outputs.small(claimed.id, result.outputs),
        )

    async def fail(self, claimed: Claimed, error: LifecycleError) -> str:
        """Write an error; the answer is ``retrying``, ``failed``, ``cancelled`` or ``lost``, or as
        of ``release`` for a failure that does not count. What Redis refuses for good is answered
        as in ``Outcome``.
        """
        error = brief_error(error, claimed.id)
        judged = verdict(error, attempt=claimed.retry_count, base=self._config.retry_wait)
        if judged.again and not judged.counts:
            return await self.release(claimed, why="lost", reason=error.summary)
        # Half a character, as of a file's name that is no text, is nothing that Redis could read.
        words = error.summary.encode(errors="replace").decode()
        now = _now()
        proof = claimed.attestation(
            **self._who(now),
            error_message=words,
            failure_type=judged.kind,
            failure_reason=error.code,
            failure_description=words,
            failed_at=iso(now),
        )
        return await self._call(
            "ml1_fail",
            claimed,
            words,
            json.dumps(error.to_wire(), default=str),
            int(judged.again),
            round(judged.wait * 1000),
            proof,
            keys.attestation(claimed.id, claimed.workflow_id),
            self._config.machine_id,
            judged.kind,
        )

    async def release(self, claimed: Claimed, *, why: str, reason: str) -> str:
        """Give a job back; the answer is ``released``, ``cancelled``, ``dead`` or ``lost``.

        Args:
            claimed: The job.
            why: ``release``; or ``crash`` or ``lost``, of which the queue allows so many.
            reason: In words.
        """
        return await self._call("ml1_release", claimed, why, brief(reason))

    async def cancelled(self, claimed: Claimed) -> str:
        """Say that a job ended because somebody asked for it."""
        return await self._call("ml1_cancelled", claimed)

    async def cut(self, claimed: Claimed, outcome: str, reason: str) -> str:
        """Write down that a run was cut short, as ``Ended`` tells it; the answer is as of
        ``release``. Of one that is lost there is nothing to be written.
        """
        if outcome == "cancelled":
            return await self.cancelled(claimed)
        if outcome in {"released", "crashed"}:
            why = "crash" if outcome == "crashed" else "release"
            return await self.release(claimed, why=why, reason=reason)
        return "released"

    async def _call(self, name: str, claimed: Claimed, *args: str | int) -> str:
        return await self._until_written(
            lambda: self._functions.call(
                name, self._config.worker_id, claimed.id, claimed.fence, *args
            )
        )

    async def _until_written(self, write: Callable[[], Awaitable[Any]]) -> str:
        wait = 0.05
        while True:
            try:
                said = str(await write())
            except (*AWAY, ResponseError) as error:
                if not passing(error):
                    return f"{UNWRITTEN} {error}"
                self._hindered(error)
            else:
                self._hindered(None)
                if not said.startswith(UNWRITTEN) or not passing(ResponseError(refusal(said))):
                    return said
            await asyncio.sleep(spread(wait))
            wait = min(wait * 2, _LONGEST_WAIT)

    def _who(self, now: int) -> dict[str, Any]:
        return {
            "worker_id": self._config.worker_id,
            "machine_id": self._config.machine_id,
            "worker_version": self._config.version,
            "attestation_created_at": now,
        }


def _now() -> int:
    return time.time_ns() // 1_000_000
