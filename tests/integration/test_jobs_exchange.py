"""In which order a worker gives and takes."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest_asyncio
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from machine_lifecycle.jobs.claims import Claimed
from machine_lifecycle.jobs.client import JobQueue
from machine_lifecycle.jobs.delivery import Delivery
from machine_lifecycle.jobs.exchange import Exchange
from machine_lifecycle.jobs.functions import FunctionsWithFiles
from machine_lifecycle.jobs.hearing import Hearing
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
        self.troubles: list[RedisError | OSError] = []

    def offer(self, asked: int) -> Offer | None:
        left = SLOTS - self.slots.taken["clock"] - asked
        self.happened.append(f"offer {left}")
        able = '{"job_service_required_map":["clock"],"services":["clock"]}'
        return Offer("able", able, left, SLOTS) if left > 0 else None

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
        self.troubles += [error] if error else []

    def written(self) -> None:
        assert not self.exchange.busy
        self.happened.append("written")


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


@pytest_asyncio.fixture
async def line(redis: Redis) -> AsyncIterator[Line]:
    found = Line(redis)
    yield found
    await found.aclose()


def config(valkey: Any) -> WorkerConfig:
    environ = {
        "WORKER_ID": "w", "MACHINE_ID": "m", "HUB_REDIS_URL": valkey.url,
        "WORKER_ROUTES": '[{"asks":"clock","service":"clock","connector":"a:B"}]',
    }  # fmt: skip
    return WorkerConfig.from_env(environ, index=0, version="1")


@contextlib.asynccontextmanager
async def working(
    valkey: Any, redis: Redis, taker: Taker, functions: FunctionsWithFiles, outbox: Path | None
) -> AsyncIterator[None]:
    """A worker's exchange, and what it hears; it never beats."""
    exchange = taker.exchange = Exchange(functions, config(valkey), taker, Delivery(Outbox(outbox)))
    listening = asyncio.Event()
    hearing = Hearing(
        redis, "w", stir=exchange.stir, pushed=exchange.pushes.hear, ready=listening.set,
        cancelled=lambda _: None, adopt=JobQueue(redis).get,
    )  # fmt: skip
    await redis.hset("worker:w", mapping={"worker_id": "w", "machine_id": "m"})
    tasks = [asyncio.create_task(hearing.run())]
    try:
        async with asyncio.timeout(PATIENCE):
            await listening.wait()
            tasks.append(asyncio.create_task(exchange.run()))
            exchange.stir()
            yield
    finally:
        await end_tasks(*tasks)


@contextlib.asynccontextmanager
async def exchanging(valkey: Any, redis: Redis, line: Line) -> AsyncIterator[tuple[Taker, Watched]]:
    """A worker's exchange, until the last job is over."""
    taker, functions = Taker(), Watched(line)
    async with working(valkey, redis, taker, functions, None):
        await taker.over.wait()
        yield taker, functions


class Long(Taker):
    """Does jobs that do not end."""

    def start(self, claimed: Claimed, slot: Slot) -> None:
        self.happened.append(f"start {claimed.fields['priority']} at {slot.service}")
        if self.slots.taken["clock"] == SLOTS:
            self.over.set()


class Slow(FunctionsWithFiles):
    """The queue's functions, whose second answer to one who waits takes until jobs were pushed."""

    def __init__(self, line: Line, *, push: Callable[[], Awaitable[None]]) -> None:
        super().__init__(line)
        self._push = push
        self.waits = 0
        """How often it was told that it waits."""

    async def call(self, name: str, *args: str | float | bytes) -> Any:
        answer = await super().call(name, *args)
        if name == "ml1_turn" and answer[2] == "":
            self.waits += 1
            if self.waits == 2:
                await self._push()
        return answer


class Lossy(FunctionsWithFiles):
    """The queue's functions, of which one answer is lost."""

    def __init__(self, line: Line, lost: Callable[[str, Any], bool]) -> None:
        super().__init__(line)
        self._lost = [lost]

    async def call(self, name: str, *args: str | float | bytes) -> Any:
        answer = await super().call(name, *args)
        if self._lost and self._lost[0](name, answer):
            self._lost.clear()
            raise RedisConnectionError("it went away")
        return answer


async def test_the_next_call_leaves_before_what_the_last_one_brought_begins(
    valkey: Any, redis: Redis, line: Line
) -> None:
    queue = JobQueue(redis)
    ids = [
        await queue.submit({}, service_required="clock", priority=priority)
        for priority in (6, 5, 4, 3, 2, 1)
    ]
    async with exchanging(valkey, redis, line) as (taker, _):
        since = taker.happened[taker.happened.index("expect 6") :]
        happened = [word for word, _ in itertools.groupby(since)]
    # Two slots are kept for what came, so that the next call asks for no more than the others;
    # what it brings waits for nothing, and neither do results for the jobs that came with them.
    assert happened[:5] == ["expect 6", "expect 5", "offer 2", "start 6", "start 5"]
    assert happened.index("ok 6") > happened.index("expect 4")
    assert [word for word in happened if word.startswith("start")] == [
        f"start {priority}" for priority in (6, 5, 4, 3, 2, 1)
    ]
    assert {(await queue.get(job_id)).status for job_id in ids} == {"completed"}


async def test_two_calls_are_under_way_while_results_are_many(
    valkey: Any, redis: Redis, line: Line
) -> None:
    queue = JobQueue(redis)
    ids = [await queue.submit({}, service_required="clock", priority=50) for _ in range(40)]
    last = await queue.submit({}, service_required="clock", priority=1)
    async with exchanging(valkey, redis, line) as (taker, functions):
        assert functions.most == [SLOTS // 2, SLOTS // 2], "each brings half of what is done"
        free = [int(word.split()[1]) for word in taker.happened if word.startswith("offer")]
        assert min(free) >= 0, "no slot was asked for twice"
    assert {(await queue.get(job_id)).status for job_id in (*ids, last)} == {"completed"}


async def test_the_worker_hears_that_its_last_result_is_written(
    valkey: Any, redis: Redis, line: Line
) -> None:
    taker = Taker()
    await JobQueue(redis).submit({}, service_required="clock", priority=1)
    async with working(valkey, redis, taker, FunctionsWithFiles(line), None):
        await taker.over.wait()
        while "written" not in taker.happened[taker.happened.index("ok 1") :]:  # noqa: ASYNC110 - no event
            await asyncio.sleep(0.01)
    assert taker.slots.taken["clock"] == 0


async def test_more_is_asked_for_once_an_answer_comes_after_the_jobs_that_were_pushed_meanwhile(
    valkey: Any, redis: Redis, line: Line
) -> None:
    taker, queue = Long(), JobQueue(redis)

    async def push() -> None:
        for begun in range(1, SLOTS // 2 + 1):
            await queue.submit({}, service_required="clock")
            while taker.slots.taken["clock"] < begun:  # noqa: ASYNC110 - no event
                await asyncio.sleep(0.01)

    functions = Slow(line, push=push)
    async with working(valkey, redis, taker, functions, None):
        while not functions.waits:  # noqa: ASYNC110 - no event
            await asyncio.sleep(0.01)
        taker.exchange.stir()
        while taker.exchange.busy or not taker.slots.taken["clock"]:  # noqa: ASYNC110 - no event
            await asyncio.sleep(0.01)
        for _ in range(SLOTS // 2):
            await queue.submit({}, service_required="clock")
        await taker.over.wait()
    assert taker.slots.taken["clock"] == SLOTS


async def test_more_is_asked_for_once_an_answer_comes_that_was_lost_before(
    valkey: Any, redis: Redis, line: Line
) -> None:
    taker, queue = Long(), JobQueue(redis)
    await queue.submit({}, service_required="clock")
    functions = Lossy(line, lambda name, answer: name == "ml1_turn" and bool(answer[1]))
    async with working(valkey, redis, taker, functions, None):
        while taker.exchange.busy or not taker.slots.taken["clock"]:  # noqa: ASYNC110 - no event
            await asyncio.sleep(0.01)
        for _ in range(SLOTS - 1):
            await queue.submit({}, service_required="clock")
        await taker.over.wait()
    assert len(taker.troubles) == 1
    assert taker.slots.taken["clock"] == SLOTS


async def test_a_result_is_answered_once_though_its_call_has_to_tell_what_the_worker_can_do(
    valkey: Any, redis: Redis, line: Line, tmp_path: Path
) -> None:
    taker = Taker()
    said: list[str] = []
    outcome = Outcome(("gone", 1, "{}", "{}", "proof:gone", 1, "clock"), said.append)
    functions = Lossy(line, lambda name, _: name == "ml1_profile")
    async with working(valkey, redis, taker, functions, tmp_path):
        taker.exchange.give(outcome)
        while taker.exchange.busy or not taker.troubles:  # noqa: ASYNC110 - no event
            await asyncio.sleep(0.01)
    assert said == ["lost"]
    assert not any(tmp_path.iterdir()), "it is on disk no longer than until it is written"  # noqa: ASYNC240 - a small folder
