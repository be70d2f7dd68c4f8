"""Whatever meets in the conversation of a worker with the queue: each job runs once, and no slot is
left idle beside a job that waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from machine_lifecycle.jobs.claims import Claimed
from machine_lifecycle.jobs.client import JobQueue
from machine_lifecycle.jobs.functions import FunctionsWithFiles
from machine_lifecycle.jobs.outcomes import Outcome
from machine_lifecycle.jobs.slots import Slot
from machine_lifecycle.jobs.turns import Offer
from machine_lifecycle.system import redis_keys as keys
from machine_lifecycle.system.redis_line import Line
from tests.integration.test_jobs_exchange import SLOTS, Taker, working

HEAVY = "x" * 300_000
"""More than is pushed: the worker is told, and asks for it."""


class Unsteady(FunctionsWithFiles):
    """The queue's functions: some calls never reach it, some answers are lost, some come late."""

    def __init__(self, line: Line, chance: random.Random, faults: float) -> None:
        super().__init__(line)
        self._chance = chance
        self.faults = faults
        """The share of calls that do not reach it, and that of answers that are lost."""

    async def call(self, name: str, *args: str | float | bytes) -> Any:
        fate = self._chance.random()
        if fate < self.faults:
            raise RedisConnectionError("it was not reached")
        answer = await super().call(name, *args)
        if fate > 0.8:
            await asyncio.sleep(self._chance.random() * 0.01)  # sleep: so late it comes
        if fate < 2 * self.faults:
            raise RedisConnectionError("the answer was lost")
        return answer


class Hasty(Taker):
    """Does jobs in no time, or nearly; from some time on they do not end."""

    def __init__(self, chance: random.Random) -> None:
        super().__init__()
        self._chance = chance
        self.held = False
        self.endless = False
        self.runs: Counter[str] = Counter()
        self.said: list[str] = []

    def offer(self, asked: int) -> Offer | None:
        return None if self.held else super().offer(asked)

    def start(self, claimed: Claimed, slot: Slot) -> None:
        assert not slot.ahead, "it has more jobs than it can do"
        self.runs[claimed.id] += 1
        if not self.endless:
            seconds = self._chance.choice((0, 0, 0.001, 0.01))
            asyncio.get_running_loop().call_later(seconds, self._end, claimed, slot)
        elif self.slots.taken["clock"] == SLOTS:
            self.over.set()

    def _end(self, claimed: Claimed, slot: Slot) -> None:
        slot.end()
        words = (claimed.id, claimed.fence, "{}", "{}", f"proof:{claimed.id}", 1, "clock")
        self.exchange.give(Outcome(words, self.said.append))
        self.exchange.stir()

    def hold(self, *, held: bool) -> None:
        """Take nothing, or take jobs again."""
        self.held = held
        self.exchange.stir()


@pytest.mark.parametrize("seed", range(12))
async def test_each_job_runs_once_and_no_slot_stays_idle(
    own_valkey: Any, admin: Redis, tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)  # noqa: S311 - no secret
    taker, line = Hasty(chance), Line(admin)  # of its own server, whose log this fills
    functions = Unsteady(line, chance, faults=0.05 * (seed % 2))
    submit = partial(JobQueue(admin).submit, service_required="clock")
    ids: list[str] = []
    async with contextlib.aclosing(line), working(own_valkey, admin, taker, functions, tmp_path):
        for _ in range(15):
            some = [
                HEAVY if chance.random() < 0.1 else "" for _ in range(chance.choice((1, 2, 10)))
            ]
            ids += [await submit({"x": words}) for words in some]
            if chance.random() < 0.3:
                taker.hold(held=not taker.held)
        taker.hold(held=False)
        while len(taker.said) < len(ids) or taker.exchange.busy:  # noqa: ASYNC110 - no event
            await asyncio.sleep(0.01)
        assert taker.runs == dict.fromkeys(ids, 1)
        assert taker.said == ["ok"] * len(ids)
        assert await admin.hlen(keys.COMPLETED) == len(ids)
        assert not any(tmp_path.iterdir())  # noqa: ASYNC240 - a small folder
        functions.faults = 0
        taker.endless = True
        for _ in range(SLOTS):
            await submit({"x": HEAVY if chance.random() < 0.3 else ""})
        await taker.over.wait()
    assert taker.slots.taken["clock"] == SLOTS
