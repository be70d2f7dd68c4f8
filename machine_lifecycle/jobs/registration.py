"""A worker in Redis: its hash, its heartbeat, and the messages about it."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Mapping
from typing import Any

from redis.asyncio import Redis

from machine_lifecycle.jobs.functions import QueueFunctions
from machine_lifecycle.jobs.worker_config import WorkerConfig
from machine_lifecycle.system import redis_keys as keys
from machine_lifecycle.system.redis_keys import iso

__all__ = ["Registration"]


class Registration:
    """Says in Redis that the worker is there, what it can do, and what it does."""

    def __init__(self, redis: Redis, functions: QueueFunctions, config: WorkerConfig) -> None:
        self._redis: Any = redis  # redis-py's pipelines have hardly any types
        self._functions = functions
        self._config = config
        self.status: str = ""
        self.job_id: str = ""
        self.held_by: str = ""
        self._writing = asyncio.Lock()
        """What is told goes over several connections, and is to arrive in its order."""
        self._left = False

    async def register(self, capabilities: Mapping[str, Any]) -> None:
        """Appear as an idle worker. Safe to repeat, as after a restart of Redis.

        Raises:
            RedisError: The server refuses, or is away.
            OSError: Likewise.
        """
        worker, now = self._config.worker_id, _now()
        status = self.status or "idle"
        facts = {
            "worker_id": worker,
            "machine_id": self._config.machine_id,
            "pid": str(os.getpid()),
            "capabilities": json.dumps(capabilities),
            "status": status,
            "connected_at": iso(now),
            "last_heartbeat": iso(now),
            "total_jobs_completed": "0",
            "total_jobs_failed": "0",
            "held_by": self.held_by,
            "current_job_id": self.job_id,
            "last_status_change": iso(now),
            "connector_statuses": "{}",
        }
        machine_id = self._config.machine_id
        data = {"id": worker, "status": status, "capabilities": capabilities}
        messages = (
            keys.WORKER_EVENTS,
            json.dumps(
                {
                    "type": "worker_connected",
                    "worker_id": worker,
                    "machine_id": machine_id,
                    "worker_data": {**data, "connected_at": iso(now)},
                    "timestamp": now,
                }
            ),
            f"{keys.WORKER_STATUS}:{worker}",
            json.dumps(
                {
                    "worker_id": worker,
                    "machine_id": machine_id,
                    "status": status,
                    "capabilities": capabilities,
                    "timestamp": iso(now),
                    "last_heartbeat": now,
                    "connected_at": iso(now),
                }
            ),
            *self._changed(
                status, self.job_id, version=self._config.version, capabilities=capabilities
            ),
        )
        words = [word for pair in facts.items() for word in pair]
        async with self._writing:
            # A function, since a server that is full does what functions write, and nothing else.
            await self._functions.call("ml1_register", worker, len(words), *words, *messages)
        self.status, self._left = status, False

    async def change(self, status: str, job_id: str = "", *, held_by: str = "") -> None:
        """Tell a change of what the worker does. Jobs that begin and end are told by the queue.

        Args:
            status: ``idle``, ``busy``, ``paused`` or ``draining``.
            job_id: What it runs, or one of them.
            held_by: Why it takes no jobs, in words; empty if it does.
        """
        worker, now = self._config.worker_id, _now()
        old, self.status, self.job_id = self.status or "idle", status, job_id
        self.held_by = held_by
        pipeline = self._redis.pipeline(transaction=False)
        pipeline.hset(
            keys.worker(worker),
            mapping={
                "status": status,
                "held_by": held_by,
                "current_job_id": job_id,
                "last_status_change": iso(now),
            },
        )
        pipeline.publish(
            keys.WORKER_STATUS,
            json.dumps(
                {
                    "worker_id": worker,
                    "old_status": old,
                    "new_status": status,
                    "current_job_id": job_id or None,
                    "timestamp": now,
                }
            ),
        )
        pipeline.publish(*self._changed(status, job_id))
        async with self._writing:
            if not self._left:
                await pipeline.execute()

    async def deregister(self) -> None:
        """Disappear."""
        worker, now = self._config.worker_id, _now()
        pipeline = self._redis.pipeline()
        pipeline.delete(keys.worker(worker), keys.heartbeat(worker))
        pipeline.srem(keys.ACTIVE_WORKERS, worker)
        pipeline.publish(
            keys.WORKER_EVENTS,
            json.dumps(
                {
                    "type": "worker_disconnected",
                    "worker_id": worker,
                    "machine_id": self._config.machine_id,
                    "timestamp": now,
                }
            ),
        )
        pipeline.publish(*self._changed("offline", ""))
        self._left = True
        async with self._writing:
            await pipeline.execute()

    def _changed(self, status: str, job_id: str, **more: Any) -> tuple[str, str]:
        """The message to those who look at one machine, and its channel."""
        worker, now = self._config.worker_id, _now()
        data = {
            "status": status,
            "is_connected": status != "offline",
            "current_job_id": job_id or None,
            "last_activity": iso(now),
            **more,
        }
        message = {
            "worker_id": worker,
            "event_type": "worker_status_changed",
            "data": data,
            "timestamp": now,
        }
        return keys.machine_worker(self._config.machine_id, worker), json.dumps(message)


def _now() -> int:
    return time.time_ns() // 1_000_000
