"""The machine in Redis: its id, its status, and the traces it must not leave."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from machine_lifecycle.errors import LifecycleError
from machine_lifecycle.fleet.claim import Claim
from machine_lifecycle.fleet.message import status_message
from machine_lifecycle.model.plan import BootPlan
from machine_lifecycle.model.ports import Check
from machine_lifecycle.model.status import StatusReport
from machine_lifecycle.system import redis_keys as keys
from machine_lifecycle.system.redis import as_lifecycle_error, refusal_of, spread
from machine_lifecycle.system.redis_errors import Refusal
from machine_lifecycle.system.redis_keys import iso

__all__ = ["Registry"]

_INFO_TTL = 120
"""Seconds that what Redis knows of a machine stays there without being written again."""
_RENEW = 10.0
"""Seconds between two renewals of the claim on the id, which holds for 30."""
_FIRST_WAIT, _LONGEST_WAIT = 0.1, 5.0
"""Seconds before Redis is asked again after it was lost: the first wait, which doubles each time,
and the longest.
"""


# What is known of the machine, in a full server too. KEYS: info. ARGV: ttl, names and values.
_APPEAR = """#!lua flags=allow-oom
redis.call('HSET', KEYS[1], unpack(ARGV, 2))
redis.call('EXPIRE', KEYS[1], ARGV[1])
"""


class Registry:
    """Registers one machine, says how it is, and takes it out again."""

    def __init__(
        self,
        redis: Redis,
        machine_id: str,
        report: Callable[[], StatusReport],
        *,
        url: str,
        interval: float = 10.0,
        on_answer: Callable[[LifecycleError | None], None] = lambda _trouble: None,
        on_drained: Callable[[bool], None] = lambda _drained: None,
    ) -> None:
        """Make it; nothing is sent until ``register``.

        Args:
            redis: The queue's.
            machine_id: Unique in the fleet.
            report: How the machine is, now.
            url: Where that Redis is, for errors.
            interval: Seconds between periodic messages.
            on_answer: Told why Redis does not do what it is asked, and ``None`` when it does.
            on_drained: Told when somebody orders by Redis that the machine take no jobs, or takes
                that back; the queue obeys at once, this follows within 10 s.
        """
        self._redis: Any = redis  # scripts and pipelines have hardly any types in redis-py
        self._machine_id = machine_id
        self._report = report
        self._url = url
        self._interval = min(interval, 29.0)
        self._on_answer = on_answer
        self._on_drained = on_drained
        self.drained: bool = False
        """Whether the queue was told to give this machine no jobs, as of the last look."""
        self._plan: BootPlan | None = None
        self._registered = False
        self._claim = Claim(redis, machine_id)

    async def register(self, plan: BootPlan) -> None:
        """Claim the machine's id and appear. Safe to repeat. A server that is full is no error: it
        has jobs that want to be done.

        Raises:
            MachineIdTaken: Another living machine holds it.
            RedisUnreachable: Redis does not answer.
        """
        self._plan = plan
        try:
            await self._claim.take()
            self._registered = True
            await self._look_for_drain()
            await self._tell("event_driven")
        except (RedisError, OSError) as error:
            trouble = as_lifecycle_error(error, self._url)
            if refusal_of(error) is not Refusal.FULL:
                raise trouble from error
            self._on_answer(trouble)
        else:
            self._on_answer(None)

    async def publish(self, update_type: str) -> None:
        """Say how the machine is, now.

        A Redis that is away is no error here: ``run`` says it again when it is back.
        """
        try:
            await self._tell(update_type)
        except (RedisError, OSError) as error:
            self._on_answer(as_lifecycle_error(error, self._url))

    async def run(self) -> None:
        """Renew the claim and tell the status until cancelled; comes back after outages.

        Raises:
            MachineIdTaken: Another machine took the id while Redis was away.
        """
        wait = min(_RENEW, self._interval)
        last = 0.0
        while True:
            await asyncio.sleep(wait)
            try:
                if self._registered:
                    await self._claim.take()
                    await self._look_for_drain()
                if time.monotonic() - last >= self._interval - 0.01:
                    await self._tell("periodic")
                    last = time.monotonic()
            except (RedisError, OSError) as error:
                self._on_answer(as_lifecycle_error(error, self._url))
                short = _FIRST_WAIT if wait >= min(_RENEW, self._interval) else wait * 2
                wait, last = spread(min(short, _LONGEST_WAIT, self._interval)), 0.0
            else:
                self._on_answer(None)
                wait = min(_RENEW, self._interval)

    async def _look_for_drain(self) -> None:
        drained = bool(await self._redis.exists(keys.machine_drained(self._machine_id)))
        if drained != self.drained:
            self.drained = drained
            self._on_drained(drained)

    async def verify(self, plan: BootPlan) -> tuple[Check, ...]:
        """Check that machine and workers are registered, as a reader of Redis sees it."""
        checks = [
            await self._check("redis-ping", self._redis.ping(), "Redis answers"),
            await self._check(
                "machine-registered",
                self._redis.exists(keys.machine_info(self._machine_id)),
                keys.machine_info(self._machine_id),
            ),
        ]
        for worker in plan.workers:
            for name, key in (
                ("worker-registered", keys.worker(worker.id)),
                ("worker-heartbeat", keys.heartbeat(worker.id)),
            ):
                checks.append(
                    await self._check(f"{name}:{worker.id}", self._redis.exists(key), key)
                )
        return tuple(checks)

    async def deregister(self) -> None:
        """Say ``shutdown`` and remove what was registered: of the machine, and what its workers
        left. Jobs stay.

        Raises:
            RedisUnreachable: Redis does not answer; what is there ends by itself (120 s).
        """
        try:
            await self._deregister()
        except (RedisError, OSError) as error:
            raise as_lifecycle_error(error, self._url) from error

    async def _deregister(self) -> None:
        if not self._registered:
            return
        self._registered = False
        message = status_message(self._report(), self._plan, "shutdown", _now())
        pipeline = self._redis.pipeline()
        pipeline.publish(keys.machine_status(self._machine_id), json.dumps(message))
        pipeline.publish(
            keys.SHUTDOWN_EVENTS,
            json.dumps(
                {
                    "event_type": "shutdown",
                    "machine_id": self._machine_id,
                    "worker_id": "",
                    "reason": "stopped",
                    "timestamp": _now(),
                }
            ),
        )
        pipeline.delete(keys.machine_info(self._machine_id))
        for worker in self._plan.workers if self._plan else ():
            pipeline.delete(keys.worker(worker.id), keys.heartbeat(worker.id))
            pipeline.srem(keys.ACTIVE_WORKERS, worker.id)
        self._claim.drop(pipeline)
        await pipeline.execute()

    async def _tell(self, update_type: str) -> None:
        """Say it; where the server is full, which is raised, it is said all the same."""
        now = _now()
        message = status_message(self._report(), self._plan, update_type, now)
        machine, structure = message["status"]["machine"], message["structure"]
        key = keys.machine_info(self._machine_id)
        pipeline = self._redis.pipeline(transaction=False)
        if self._registered:
            facts = {
                "machine_id": self._machine_id,
                "status": machine["phase"],
                "last_activity": iso(now),
                "gpu_count": structure["gpu_count"],
                "capabilities": json.dumps(structure["capabilities"]),
                "structure": json.dumps(structure),
                "uptime_ms": machine["uptime_ms"],
                "health_url": message["health_url"],
            }
            words = [word for pair in facts.items() for word in pair]
            pipeline.eval(_APPEAR, 1, key, _INFO_TTL, *words)
        pipeline.publish(keys.machine_status(self._machine_id), json.dumps(message))
        if self._registered:  # refused by a full server, as all that is not meant for one
            pipeline.hset(key, "last_activity", iso(now))
        await pipeline.execute()

    async def _check(self, name: str, question: Any, detail: str) -> Check:
        began = time.monotonic()
        try:
            ok = bool(await question)
            said = detail if ok else f"{detail} is not there"
        except (RedisError, OSError) as error:
            ok, said = False, as_lifecycle_error(error, self._url).summary
        return Check(name=name, ok=ok, seconds=time.monotonic() - began, detail=said)


def _now() -> int:
    return time.time_ns() // 1_000_000
