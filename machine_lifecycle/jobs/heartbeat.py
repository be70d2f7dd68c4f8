"""The sign of life of a worker, with which it keeps what it runs."""

from __future__ import annotations

import asyncio
import random
from functools import partial

from machine_lifecycle.jobs.exchange import Exchange
from machine_lifecycle.jobs.execution import Execution
from machine_lifecycle.jobs.functions import QueueFunctions
from machine_lifecycle.jobs.hearing import Hearing
from machine_lifecycle.jobs.offers import Offers
from machine_lifecycle.jobs.registration import Registration
from machine_lifecycle.jobs.retrying import passed_over
from machine_lifecycle.jobs.worker_config import WorkerConfig
from machine_lifecycle.jobs.worker_voice import WorkerVoice

__all__ = ["Heartbeat"]

_MISSED = 1.0
"""Seconds until a heartbeat is tried again that Redis did not take."""
_IDLE_BEATS = 1.5
"""An idle worker has no lease to keep: it beats so much more seldom than one that runs a job."""

_DEAF = 1
"""What the queue says of a worker that is known and does not listen, as ``ml1_beat`` tells it."""


class Heartbeat:
    """Beats, and attends to what the queue says then."""

    def __init__(
        self,
        config: WorkerConfig,
        functions: QueueFunctions,
        registration: Registration,
        *,
        offers: Offers,
        exchange: Exchange,
        execution: Execution,
        voice: WorkerVoice,
        hearing: Hearing,
    ) -> None:
        """Make it; it beats while ``run`` does.

        Args:
            config: Whose it is.
            functions: The queue.
            registration: Repeated when the queue has forgotten the worker.
            offers: What the worker can do.
            exchange: Told of what there may be to take, and of pushed jobs that were missed.
            execution: What it runs.
            voice: Knows whether it is registered.
            hearing: Told whether to listen for jobs of other parties, and that the queue does not
                know of its listening.
        """
        self._config = config
        self._functions = functions
        self._registration = registration
        self._offers = offers
        self._exchange = exchange
        self._execution = execution
        self._voice = voice
        self._hearing = hearing
        self._fleet = 1

    async def run(self) -> None:
        """Say that we live, and keep what we run. A missed beat is soon made up for."""
        missed = False
        while True:
            wait = self._config.beat
            if self._execution.idle:  # all idle workers of a fleet look as often as one alone would
                wait = min(self._config.poll * self._fleet, wait * _IDLE_BEATS)
            wait = min(wait, _MISSED) if missed else wait
            wait *= random.uniform(0.9, 1.0)  # noqa: S311 - no secret
            await self._exchange.pushes.until_missed(wait)
            if self._voice.advertised is not None or self._execution.running:
                missed = True
                with passed_over(partial(self._voice.hindered, "beats")):
                    await self.beat()
                    missed = False

    async def beat(self) -> None:
        """Once.

        Raises:
            RedisError: It refuses, or is away.
            OSError: It is away.
        """
        running, pushes = dict(self._execution.running), self._exchange.pushes
        held = [word for job_id, run in running.items() for word in (job_id, run.fence)]
        digest, lease = self._offers.whole(), self._config.lease_ms
        at = asyncio.get_running_loop().time()
        lost, cancelled, known, work, ear, fleet, *pushed = await self._functions.call(
            "ml1_beat", self._config.worker_id, digest, lease, *held, pushes.word
        )
        self._fleet = max(1, int(fleet))
        for job_id in lost:
            running[job_id].cut("lost", "another worker has it, or it has ended")
        for job_id in cancelled:
            running[job_id].cut("cancelled")
        pushes.catch_up(*pushed)
        if not known and self._voice.advertised is not None:
            await self._registration.register(self._voice.advertised)
        if work or not known:
            self._exchange.stir()
        self._hearing.be_ear(ear=bool(ear))
        if known == _DEAF:
            self._hearing.is_unknown(at)
