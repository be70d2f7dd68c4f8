"""The worker process: jobs from the queue, through connectors, as many at a time as those take."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from machine_lifecycle.errors import LifecycleError
from machine_lifecycle.jobs.claims import Claimed
from machine_lifecycle.jobs.delivery import Delivery
from machine_lifecycle.jobs.exchange import Exchange
from machine_lifecycle.jobs.execution import Execution
from machine_lifecycle.jobs.functions import FunctionsWithFiles, QueueFunctions
from machine_lifecycle.jobs.hearing import Hearing
from machine_lifecycle.jobs.heartbeat import Heartbeat
from machine_lifecycle.jobs.offers import Offers
from machine_lifecycle.jobs.outbox import Outbox
from machine_lifecycle.jobs.registration import Registration
from machine_lifecycle.jobs.reporting import Reports
from machine_lifecycle.jobs.settling import Settler
from machine_lifecycle.jobs.slots import Slot
from machine_lifecycle.jobs.turns import Offer
from machine_lifecycle.jobs.worker_config import WorkerConfig
from machine_lifecycle.jobs.worker_services import WorkerServices
from machine_lifecycle.jobs.worker_voice import Hold, WorkerVoice
from machine_lifecycle.system.redis import as_lifecycle_error, spread
from machine_lifecycle.system.redis_line import Line
from machine_lifecycle.system.tasks import end_tasks

__all__ = ["Worker"]

_log = logging.getLogger(__name__)

_GRACE = 0.4
"""Seconds in which a running job may end by itself after SIGTERM."""
_PATIENCE = 1.3
"""Seconds after SIGTERM for all of that and for giving the job back; then its lease does that."""
_LEAVE = 1.0
"""Seconds for taking our name out of Redis, which need no longer be quick. Its supervisor gives a
worker 3 s for everything.
"""
_PART = 0.3
"""Seconds for leaving the services, which hear of our end in any case."""
_LONGEST_WAIT = 5.0
_DOWN = "its service went down"
_HOLDS = {
    "drain": Hold.DRAINING,
    "undrain": Hold.DRAINING,
    "hold": Hold.HELD,
    "unhold": Hold.HELD,
}


@contextlib.contextmanager
def _unheard() -> Iterator[None]:
    """Redis may not hear that we leave: our name and what we were given wait for their end then."""
    try:
        yield
    except (RedisError, OSError, TimeoutError) as error:
        why = str(error) or f"no answer within {_LEAVE:g} s"
        _log.warning("Redis has not heard that this worker leaves, and will notice: %s", why)


class Worker:
    """Takes jobs while nothing holds it back."""

    def __init__(self, config: WorkerConfig, redis: Redis, services: WorkerServices) -> None:
        """Make a worker; nothing is opened until ``run``.

        Args:
            config: Who it is.
            redis: For commands.
            services: What it drives.
        """
        self._config, self._services = config, services
        self._delivery = Delivery(Outbox(config.outbox))
        self._lines = Line(redis), Line(redis)
        self._functions = QueueFunctions(self._lines[0])
        self._registration = Registration(redis, self._functions, config)
        self._voice = WorkerVoice(config, self._registration, order=self._told)
        self.hindered: Callable[[Exception | None], None] = partial(self._voice.hindered, "turns")
        services.warmer.on_word = self._voice.warming
        self._offers = Offers(services)
        self._exchange = Exchange(FunctionsWithFiles(self._lines[1]), config, self, self._delivery)
        self._execution = Execution(
            config, Reports(self._functions, config.worker_id),
            Settler(self._functions, config, hindered=partial(self._voice.hindered, "ends")),
            services, self._voice, on_free=self._freed, on_hung=self._rest,
            give=self._exchange.give,
        )  # fmt: skip
        self.expect: Callable[[Claimed], Slot] = self._execution.expect
        self.start: Callable[[Claimed, Slot], None] = self._execution.start
        self._hearing = Hearing(
            redis, config.worker_id, stir=self._exchange.stir, pushed=self._exchange.pushes.hear,
            ready=self._exchange.listening, cancelled=self._execution.cancel,
            adopt=partial(self._functions.call, "ml1_adopt"),
        )  # fmt: skip
        self._heartbeat = Heartbeat(
            config, self._functions, self._registration, offers=self._offers,
            exchange=self._exchange, execution=self._execution, voice=self._voice,
            hearing=self._hearing,
        )  # fmt: skip
        self._changed = asyncio.Event()
        """Something holds it back, or no more, or a service went away."""
        self._ended, self._hurry = asyncio.Event(), asyncio.Event()
        self._recovered = False

    async def run(self) -> None:
        """Work until told to stop. Leaves within 3 s then, whatever Redis and services do."""
        keepers = (self._connected, self._heartbeat.run, self._voice.run, self._hearing.run)
        tasks = [asyncio.create_task(run()) for run in (self._exchange.run, *keepers)]
        ended, hurry = (asyncio.create_task(event.wait()) for event in (self._ended, self._hurry))
        try:
            await asyncio.wait({ended, hurry, *tasks}, return_when=asyncio.FIRST_COMPLETED)
            for each in tasks:
                if each.done():
                    each.result()
            if self._execution.fault:
                raise self._execution.fault
        finally:
            exchange, connected, beat, voice, hearing = tasks
            await self._execution.end()
            await end_tasks(ended, hurry, exchange, connected, beat, hearing)
            await self._leave()
            await end_tasks(voice)

    def stop(self) -> None:
        """Take nothing more, end or give back what runs, and leave. A second call hurries."""
        again = Hold.STOPPING in self._voice.holds
        self._voice.holds.add(Hold.STOPPING)
        self._voice.changed()
        self._freed()
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
                # Nothing will come of this run: another worker may have it now.
                self._execution.give_back(order.get("reason") or _DOWN, crashed=True)
                self._services.warmer.abandon()
            case "drain" | "hold" as word:
                holds.add(_HOLDS[word])
            case "undrain" | "unhold" as word:
                holds.discard(_HOLDS[word])
            case "rested":
                holds.discard(Hold.HUNG)
            case "release":
                self._execution.give_back("handed back by the orchestrator")
            case "cancel":
                self._execution.cancel(str(order.get("job_id", "")))
            case "stop":
                self.stop()
        self._voice.changed()
        self._changed.set()
        self._freed()

    def _rest(self, seconds: float) -> None:
        """Take nothing until the service was restarted, which ``go`` tells; or for a while."""
        self._voice.holds.add(Hold.HUNG)
        self._voice.changed()
        asyncio.get_running_loop().call_later(seconds, self._told, {"do": "rested"})

    def offer(self, asked: int) -> Offer | None:
        """What it is ready to take now beside so many jobs as are asked for; ``None``: nothing."""
        able = self._voice.advertised is not None and not self._voice.holds
        return self._offers.make(self._execution.slots, asked) if able else None

    def unbegun(self) -> int:
        """How many jobs it has that were fetched ahead, and wait."""
        return self._execution.slots.unbegun

    def is_asking(self) -> bool:
        """Whether an answer of the queue is due."""
        return self._lines[1].is_asking()

    def _freed(self) -> None:
        """There is room for a job, or a reason to look again."""
        self._exchange.stir()
        if self._voice.advertised is None:
            self._changed.set()
        self.written()

    def written(self) -> None:
        """Nothing is on its way to the queue: where it stops, that may have been the last."""
        done = self._execution.idle and not self._exchange.busy
        if (done and Hold.STOPPING in self._voice.holds) or self._execution.fault:
            self._ended.set()

    # What goes on beside the jobs

    async def _connected(self) -> None:
        """See what the services can do and appear in Redis, each time that it is not known."""
        wait = 0.1
        while True:
            if self._voice.holds - {Hold.HELD} or self._voice.advertised is not None:
                await self._changed.wait()
                self._changed.clear()
                continue
            try:
                await self._connect()
                wait = 0.1
            except (RedisError, OSError, LifecycleError) as error:
                self._voice.trouble(as_lifecycle_error(error, self._config.redis_url))
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(spread(wait)):
                        await self._changed.wait()
                self._changed.clear()
                wait = min(wait * 2, _LONGEST_WAIT)

    async def _connect(self) -> None:
        proved = await self._services.connect()
        capabilities = self._config.capabilities(proved, concurrent=self._services.most)
        if not self._recovered:  # an earlier run of this worker may have died with a job
            await self._exchange.deliver(self._delivery.left())
            await self._functions.call(
                "ml1_recover", self._config.worker_id, "its worker ended without a word"
            )
            self._recovered = True
        await self._registration.register(capabilities)
        self._offers.connected(capabilities)
        await self._heartbeat.beat()
        self._voice.connected(capabilities, self._services.loaded)
        self._exchange.stir()

    async def _leave(self) -> None:
        with _unheard():
            async with asyncio.timeout(_LEAVE):
                # What was cancelled may be on its way still: it comes before these answers.
                gone = self._exchange.leave(self._offers.digests())
                await asyncio.gather(gone, self._lines[0].execute_command("PING"))
                await self._registration.deregister()
        for line in self._lines:
            await line.aclose()
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(_PART):
                await self._voice.last_words()
                await self._services.leave()
