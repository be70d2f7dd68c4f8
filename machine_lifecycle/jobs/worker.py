"""The worker process: one job at a time, from the queue, through a connector."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
import uuid
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from machine_lifecycle.errors import LifecycleError
from machine_lifecycle.jobs.execution import Execution
from machine_lifecycle.jobs.functions import QueueFunctions
from machine_lifecycle.jobs.hearing import Hearing
from machine_lifecycle.jobs.registration import Registration
from machine_lifecycle.jobs.settling import Settler
from machine_lifecycle.jobs.worker_config import WorkerConfig
from machine_lifecycle.jobs.worker_services import WorkerServices
from machine_lifecycle.jobs.worker_voice import Hold, WorkerVoice
from machine_lifecycle.system.tasks import end_tasks

__all__ = ["Worker"]

_GRACE = 0.4
"""Seconds in which a running job may end by itself after SIGTERM."""
_PATIENCE = 1.3
"""Seconds after SIGTERM for all of that and for giving the job back; then its lease does that."""
_LEAVE = 0.3
"""Seconds for taking our name out of Redis, and as long for leaving the services."""
_LONGEST_WAIT = 5.0
_MENDING = 10.0
"""Seconds in which the restart of a hung service should have begun; else it is tried again."""


class Worker:
    """Takes jobs while nothing holds it back."""

    def __init__(self, config: WorkerConfig, redis: Redis, services: WorkerServices) -> None:
        """Make a worker; nothing is opened until ``run``.

        Args:
            config: Who it is.
            redis: For commands.
            services: What it drives.
        """
        self._config = config
        self._services = services
        self._functions = QueueFunctions(redis)
        self._settler = Settler(redis, self._functions, config)
        self._registration = Registration(redis, config)
        self._voice = WorkerVoice(config, self._registration, order=self._told)
        self._execution = Execution(
            config, self._functions, self._settler, services, self._voice,
            next_claim=self._next_claim, on_hung=self._rest,
        )  # fmt: skip
        self._hearing = Hearing(config, stir=self._stirred, cancelled=self._execution.cancel)
        self._stir = asyncio.Event()
        self._due = 0.0
        self._hurry = asyncio.Event()
        self._next: list[Any] | None = None
        self._token = uuid.uuid4().hex
        self._recovered = False

    async def run(self) -> None:
        """Work until told to stop. Leaves within 2 s then, whatever Redis and services do."""
        work = asyncio.create_task(self._work())
        hurry = asyncio.create_task(self._hurry.wait())
        others = [
            asyncio.create_task(task()) for task in (self._beat, self._voice.run, self._hearing.run)
        ]
        ended: list[asyncio.Task[None]] = [work, *others]
        try:
            await asyncio.wait({work, hurry, *others}, return_when=asyncio.FIRST_COMPLETED)
            for each in ended:
                if each.done():
                    each.result()
        finally:
            beat, voice, hearing = others
            await end_tasks(work, hurry, beat, hearing)
            await self._leave()
            await end_tasks(voice)

    def stop(self) -> None:
        """Take nothing more, end or give back what runs, and leave. A second call hurries."""
        again = Hold.STOPPING in self._voice.holds
        self._voice.holds.add(Hold.STOPPING)
        self._stir.set()
        loop = asyncio.get_running_loop()
        loop.call_later(0 if again else _GRACE, self._execution.give_back, "its worker stops")
        loop.call_later(_PATIENCE, self._hurry.set)

    # What it is told

    def _told(self, order: dict[str, Any]) -> None:
        holds = self._voice.holds
        match order.get("do"):
            case "go":
                holds.difference_update({Hold.STANDBY, Hold.PAUSED, Hold.HUNG})
                if self._services.began(order.get("runs", ())):
                    self._voice.advertised = None  # it may have loaded more, or less, this time
            case "pause":
                holds.add(Hold.PAUSED)
                # Whoever started the service knows that it is gone: nothing will come of this
                # run, and another worker may have it now.
                self._execution.crash("its service went down")
            case "drain":
                holds.add(Hold.DRAINING)
            case "undrain":
                holds.discard(Hold.DRAINING)
            case "release":
                self._execution.give_back("handed back by the orchestrator")
            case "cancel":
                self._execution.cancel(str(order.get("job_id", "")))
            case "stop":
                self.stop()
        self._voice.changed()
        self._stir.set()

    def _rest(self) -> None:
        """Take nothing until the service was restarted, which ``go`` tells; or for a while."""
        self._voice.holds.add(Hold.HUNG)
        asyncio.get_running_loop().call_later(_MENDING, self._rested)

    def _rested(self) -> None:
        self._voice.holds.discard(Hold.HUNG)
        self._stir.set()

    def _stirred(self, due_ms: float) -> None:
        if due_ms:
            self._due = due_ms if not self._due else min(self._due, due_ms)
        self._stir.set()

    # The loop

    async def _work(self) -> None:
        wait = 0.1
        while Hold.STOPPING not in self._voice.holds:
            if self._voice.holds and self._next is None:
                await self._until_stirred(None)
                continue
            try:
                if self._voice.advertised is None:
                    await self._connect()
                claimed = self._next or await self._claim()
            except (RedisError, OSError, LifecycleError) as error:
                if isinstance(error, LifecycleError):
                    self._voice.trouble(error)
                await self._until_stirred(wait)
                wait = min(wait * 2, _LONGEST_WAIT)
                continue
            wait = 0.1
            self._next = None
            if claimed[0] == "job":
                self._token = uuid.uuid4().hex
                self._next = await self._execution.do(claimed)
            else:
                await self._until_stirred(self._pause_after(float(claimed[1])))

    def _pause_after(self, due_in_ms: float) -> float:
        """Seconds until the queue is worth a look even if nobody stirs us."""
        waits = [self._config.poll]
        if due_in_ms >= 0:
            waits.append(due_in_ms / 1000)
        if self._due:
            waits.append(self._due / 1000 - time.time())
            self._due = 0
        return max(0.001, min(waits))

    async def _until_stirred(self, seconds: float | None) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stir.wait()
        self._stir.clear()

    async def _connect(self) -> None:
        """See what the services can do, and appear in Redis."""
        capabilities = self._config.capabilities(await self._services.connect())
        if not self._recovered:
            # An earlier run of this worker may have died with a job.
            await self._functions.call(
                "ml1_recover", self._config.worker_id, "its worker ended without a word"
            )
            self._recovered = True
        await self._registration.register(capabilities)
        self._voice.connected(capabilities, self._services.loaded)

    async def _claim(self) -> list[Any]:
        # What stirred us up to here is covered by the look that follows.
        self._stir.clear()
        answer: list[Any] = ["more", "", 0]
        while answer[0] == "more":
            answer = await self._functions.call(
                "ml1_claim",
                self._config.worker_id,
                json.dumps(self._voice.advertised),
                self._token,
                self._settler.lease_ms,
                answer[1],
                answer[2],
            )
        return answer

    def _next_claim(self) -> tuple[str, str]:
        free = not self._voice.holds and self._voice.advertised is not None
        return (json.dumps(self._voice.advertised), self._token) if free else ("", "")

    async def _beat(self) -> None:
        """Say that we live, and keep what we run; both last longer than several missed beats."""
        while True:
            await asyncio.sleep(self._config.beat)
            if self._voice.advertised is None:
                continue
            running = self._execution.running
            held = (running.job.id, running.fence) if running else ()
            with contextlib.suppress(RedisError, OSError):
                lost, cancelled, known = await self._functions.call(
                    "ml1_beat", self._config.worker_id, self._settler.lease_ms, *held
                )
                if running and running.job.id in lost:
                    running.cut("lost", "another worker has it, or it has ended")
                if running and running.job.id in cancelled:
                    running.cut("cancelled")
                if not known and self._voice.advertised is not None:
                    await self._registration.register(self._voice.advertised)

    async def _leave(self) -> None:
        with contextlib.suppress(RedisError, OSError, TimeoutError):
            async with asyncio.timeout(_LEAVE):
                await self._registration.deregister()
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(_LEAVE):
                await self._voice.last_words()
                await self._services.leave()
