"""In which order a worker gives and takes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from machine_lifecycle.jobs.claims import Claimed
from machine_lifecycle.jobs.client import JobQueue
from machine_lifecycle.jobs.delivery import Delivery
from machine_lifecycle.jobs.exchange import Exchange
from machine_lifecycle.jobs.functions import FunctionsWithFiles
from machine_lifecycle.jobs.outbox import Outbox
from machine_lifecycle.jobs.outcomes import Outcome
from machine_lifecycle.jobs.slots import Slot, Slots
from machine_lifecycle.jobs.turns import Offer
from machine_lifecycle.jobs.worker_config import WorkerConfig
from machine_lifecycle.system.redis_line import Line
from machine_lifecycle.system.tasks import end_tasks
from tests.support.patience import PATIENCE

SLOTS = 4


class Taker:
    """Does jobs in no time, and writes down what happens in which order."""

    def __init__(self) -> None:
        self.happened: list[str] = []
        self.slots = Slots({"clock": SLOTS}, lambda: None)
        self.exchange: Exchange
        self.over = asyncio.Event()

    def offer(self, asked: int) -> Offer | None:
        left = SLOTS - self.slots.taken["clock"] - asked
        self.happened.append(f"offer {left}")
        able = '{"job_service_required_map":["clock"],"services":["clock"]}'
        return Offer("able", able, left, SLOTS) if left else None

    def unbegun(self) -> int:
        return 0

    def expect(self, claimed: Claimed) -> Slot:
        self.happened.append(f"expect {claimed.fields['priority']}")
        return self.slots.take("clock")

    def start(self, claimed: Claimed, slot: Slot) -> None:
        self.happened.append(f"start {claimed.fields['priority']}")
        slot.end()
        words = (claimed.id, claimed.fence, "{}", "{}", f"proof:{claimed.id}", 1, "clock")
        self.exchange.give(Outcome(words, partial(self._answered, claimed)))

    def _answered(self, claimed: Claimed, said: str) -> None:
        self.happened.append(f"{said} {claimed.fields['priority']}")
        if claimed.fields["priority"] == "1":
            self.over.set()

    def hindered(self, error: RedisError | OSError | None) -> None:
        assert error is None

    def written(self) -> None:
        """Nothing is to be done here."""


class Watched(FunctionsWithFiles):
    """The queue's functions, which tell how many turns are under way at a time."""

    def __init__(self, line: Line) -> None:
        super().__init__(line)
        self.under_way: dict[str, int] = {}
        """Results that each brings, by its token."""
        self.most: list[int] = []
        """The most that were under way together, by what each brought."""

    async def call(self, name: str, *args: str | float | bytes) -> Any:
        if name != "ml1_turn":
            return await super().call(name, *args)
        token = str(args[3])
        assert token not in self.under_way, "a question is asked again when it was not answered"
        self.under_way[token] = (len(args) - 6) // 7
        together = list(self.under_way.values())
        self.most = max(self.most, together, key=lambda calls: (len(calls), sum(calls)))
        try:
            return await super().call(name, *args)
        finally:
            del self.under_way[token]


@contextlib.asynccontextmanager
async def exchanging(valkey: Any, redis: Redis) -> AsyncIterator[tuple[Taker, Watched]]:
    """A worker's exchange, which goes on until the last job is over."""
    taker, line = Taker(), Line(redis)
    environ = {
        "WORKER_ID": "w", "MACHINE_ID": "m", "HUB_REDIS_URL": valkey.url,
        "WORKER_ROUTES": '[{"asks":"clock","service":"clock","connector":"a:B"}]',
    }  # fmt: skip
    config = WorkerConfig.from_env(environ, index=0, version="1")
    await redis.hset("worker:w", mapping={"worker_id": "w", "machine_id": "m"})
    functions = Watched(line)
    taker.exchange = Exchange(functions, config, taker, Delivery(Outbox(None)))
    running = asyncio.create_task(taker.exchange.run())
    try:
        taker.exchange.stir()
        async with asyncio.timeout(PATIENCE):
            await taker.over.wait()
        yield taker, functions
    finally:
        await end_tasks(running)
        await line.aclose()


async def test_the_next_call_leaves_before_what_the_last_one_brought_begins(
    valkey: Any, redis: Redis
) -> None:
    queue = JobQueue(redis)
    ids = [
        await queue.submit({}, service_required="clock", priority=priority)
        for priority in (6, 5, 4, 3, 2, 1)
    ]
    async with exchanging(valkey, redis) as (taker, _):
        happened = taker.happened[taker.happened.index("expect 6") :]
    # Two slots are kept for what came, so that the next call asks for no more than the others;
    # what it brings waits for nothing, and neither do results for the jobs that came with them.
    assert happened[:5] == ["expect 6", "expect 5", "offer 2", "start 6", "start 5"]
    assert happened.index("ok 6") > happened.index("expect 4")
    assert [word for word in happened if word.startswith("start")] == [
        f"start {priority}" for priority in (6, 5, 4, 3, 2, 1)
    ]
    assert {(await queue.get(job_id)).status for job_id in ids} == {"completed"}


async def test_two_calls_are_under_way_while_results_are_many(valkey: Any, redis: Redis) -> None:
    queue = JobQueue(redis)
    ids = [await queue.submit({}, service_required="clock", priority=50) for _ in range(40)]
    last = await queue.submit({}, service_required="clock", priority=1)
    async with exchanging(valkey, redis) as (taker, functions):
        assert functions.most == [SLOTS // 2, SLOTS // 2], "each brings half of what is done"
        free = [int(word.split()[1]) for word in taker.happened if word.startswith("offer")]
        assert min(free) >= 0, "no slot was asked for twice"
    assert {(await queue.get(job_id)).status for job_id in (*ids, last)} == {"completed"}
