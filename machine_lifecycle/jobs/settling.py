"""How a run's end is written down: complete, fail, give back. All of it survives a Redis that is
away for a while, and none of it is written for a job that is no longer ours.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from machine_lifecycle.errors import LifecycleError
from machine_lifecycle.jobs import outputs
from machine_lifecycle.jobs.functions import QueueFunctions
from machine_lifecycle.jobs.records import JobRecord
from machine_lifecycle.jobs.worker_config import WorkerConfig
from machine_lifecycle.model.jobs import JobResult
from machine_lifecycle.system import redis_keys as keys
from machine_lifecycle.system.redis_keys import iso

__all__ = ["AWAY", "Settler"]

AWAY = (RedisConnectionError, RedisTimeoutError, OSError)
"""What a Redis that restarts, or can't be reached, looks like."""

_LONGEST_WAIT = 1.0
_LONGEST_RETRY = 60.0
_REQUEST_KEPT = 64 * 1024
"""Characters up to which a request is kept in the attestation."""


class Settler:
    """Writes the outcome of runs, over and over until Redis has it."""

    def __init__(self, redis: Redis, functions: QueueFunctions, config: WorkerConfig) -> None:
        self._redis = redis
        self._functions = functions
        self._config = config

    async def complete(
        self,
        record: JobRecord,
        result: JobResult,
        *,
        service: str,
        seconds: float,
        claim: tuple[str, str],
    ) -> list[Any]:
        """Write a result; the answer is ``["ok"]`` or ``["lost"]``, and a claim's answer behind it.

        Args:
            record: The job, with the fence of this run.
            result: What came out.
            service: Which service did it.
            seconds: How long it took.
            claim: Capabilities and token for the next job; both empty for none.
        """
        metadata = outputs.result_metadata(
            record.id, result, service=service, milliseconds=round(seconds * 1000)
        )
        text = json.dumps(metadata)
        name = keys.attestation(record.id, record.workflow_id)
        attempt = f"worker:completion:{name}:attempt:{record.retry_count + 1}"
        proof = self._attestation(record) | {
            "status": "completed",
            "completed_at": iso(_now()),
            "result": text,
            "raw_service_output": json.dumps(dict(result.data)),
        }

        async def write() -> list[Any]:
            await outputs.store(self._redis, record.id, result.outputs)
            answer: list[Any] = await self._functions.call(
                "ml1_complete",
                self._config.worker_id,
                record.id,
                record.fence,
                text,
                json.dumps(proof),
                attempt,
                *claim,
                self.lease_ms,
            )
            return answer

        answer: list[Any] = await self._until_written(write)
        return answer

    async def fail(self, record: JobRecord, error: LifecycleError) -> str:
        """Write an error; the answer is ``retrying``, ``failed``, ``cancelled`` or ``lost``."""
        wait = min(self._config.retry_wait * 2**record.retry_count, _LONGEST_RETRY)
        wait *= random.uniform(0.8, 1.2)  # noqa: S311  # spreads retries, guards nothing
        proof = self._attestation(record) | {
            "error_message": error.summary,
            "failure_type": error.code,
            "failure_reason": error.code,
            "failure_description": error.summary,
            "failed_at": iso(_now()),
        }
        return str(
            await self._call(
                "ml1_fail",
                record,
                error.summary,
                json.dumps(error.to_wire(), default=str),
                int(error.recoverable),
                round(wait * 1000),
                json.dumps(proof),
                keys.attestation(record.id, record.workflow_id),
            )
        )

    async def release(self, record: JobRecord, *, crash: bool, reason: str) -> str:
        """Give a job back; the answer is ``released``, ``cancelled``, ``dead`` or ``lost``."""
        return str(await self._call("ml1_release", record, int(crash), reason))

    async def cancelled(self, record: JobRecord) -> str:
        """Say that a job ended because somebody asked for it."""
        return str(await self._call("ml1_cancelled", record))

    @property
    def lease_ms(self) -> int:
        """How long a job stays ours without a sign of life."""
        return round(self._config.lease * 1000)

    async def _call(self, name: str, record: JobRecord, *args: str | int) -> Any:
        return await self._until_written(
            lambda: self._functions.call(
                name, self._config.worker_id, record.id, record.fence, *args
            )
        )

    async def _until_written(self, write: Any) -> Any:
        wait = 0.05
        while True:
            try:
                return await write()
            except (*AWAY, ResponseError) as error:
                if isinstance(error, ResponseError) and not _passing(error):
                    raise
            await asyncio.sleep(wait)
            wait = min(wait * 2, _LONGEST_WAIT)

    def _attestation(self, record: JobRecord) -> dict[str, Any]:
        request = json.dumps(dict(record.payload))
        return {
            "job_id": record.id,
            "worker_id": self._config.worker_id,
            "machine_id": self._config.machine_id,
            "worker_version": self._config.version,
            "retry_count": record.retry_count,
            "workflow_id": record.workflow_id,
            "current_step": record.fields.get("current_step", ""),
            "total_steps": record.fields.get("total_steps", ""),
            "raw_service_request": request if len(request) <= _REQUEST_KEPT else "",
            "attestation_created_at": _now(),
        }


def _passing(error: RedisError) -> bool:
    """Whether a refusal goes away by itself, as of a server that loads its data."""
    return str(error).startswith(("LOADING", "OOM", "READONLY", "BUSY", "MASTERDOWN"))


def _now() -> int:
    return time.time_ns() // 1_000_000
