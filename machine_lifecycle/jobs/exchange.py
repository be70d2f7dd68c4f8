"""The worker's conversation with the queue: results go out and jobs come in, in one call.

While calls are on their way the results of the next one gather, so that a worker that does many
short jobs at once pays one round trip for a handful of them. A call asks for half of what the
worker can do, so that it works on one half while the queue works on the other: what an answer
brought is begun when the next call has left.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Protocol

from redis.exceptions import RedisError

from machine_lifecycle.jobs.claims import Claimed
from machine_lifecycle.jobs.delivery import Delivery
from machine_lifecycle.jobs.functions import FunctionsWithFiles
from machine_lifecycle.jobs.lanes import Lane, Lanes
from machine_lifecycle.jobs.outcomes import UNWRITTEN, Outcome
from machine_lifecycle.jobs.oversize import Oversize, suspected
from machine_lifecycle.jobs.pushes import Pushes
from machine_lifecycle.jobs.retrying import passed_over, passing, refused
from machine_lifecycle.jobs.slots import Slot
from machine_lifecycle.jobs.turns import Offer, Turn, Turns
from machine_lifecycle.jobs.worker_config import WorkerConfig
from machine_lifecycle.system.redis import spread
from machine_lifecycle.system.tasks import end_tasks

__all__ = ["Exchange"]

_FIRST_WAIT, _LONGEST_WAIT = 0.05, 1.0


class Offering(Protocol):
    """Who takes jobs."""

    def offer(self, asked: int) -> Offer | None:
        """What it is ready to take now beside so many jobs as are asked for; ``None``: nothing."""

    def unbegun(self) -> int:
        """How many jobs it has that were fetched ahead, and wait."""

    def expect(self, claimed: Claimed) -> Slot:
        """Keep a slot for a job that has come."""

    def start(self, claimed: Claimed, slot: Slot) -> None:
        """Do it."""

    def hindered(self, error: RedisError | OSError | None) -> None:
        """The queue does not take what it is told, for now; ``None``: it does."""

    def written(self) -> None:
        """Nothing is on its way to the queue, for now."""


class Exchange:
    """Calls as long as there is something to give or to take."""

    def __init__(
        self,
        functions: FunctionsWithFiles,
        config: WorkerConfig,
        taker: Offering,
        delivery: Delivery,
    ) -> None:
        """Make it; nothing is sent until ``run``.

        Args:
            functions: The queue.
            config: Whose it is.
            taker: Who takes jobs.
            delivery: Sees to results while Redis is away.
        """
        self._turns = Turns(functions, config)
        self._taker = taker
        self._delivery = delivery
        self._oversize = Oversize(functions)
        self._lanes = Lanes()
        self.pushes: Pushes = Pushes(self._lanes.name, take=self._begin, stir=self.stir)
        self._outcomes: list[Outcome] = []
        self._stirred = False
        """There may be a job, or room for one, that no call has asked for."""
        self._due: asyncio.TimerHandle | None = None
        self._answers: list[tuple[Outcome, str]] = []
        self._arrived: list[tuple[Claimed, Slot]] = []
        """What the last answer brought, until it is attended to."""

    def stir(self) -> None:
        """There may be a job, or room for one."""
        self._stirred = True
        self._lanes.stir(len(self._outcomes))

    def listening(self) -> None:
        """What was told until now may have been missed."""
        self.pushes.doubt()
        self.stir()

    def give(self, outcome: Outcome) -> None:
        """Write a result with the next call."""
        self._outcomes.append(outcome)
        self._lanes.stir(len(self._outcomes))

    @property
    def busy(self) -> bool:
        """Whether results are still to be written."""
        left = self._outcomes or self._answers or self._arrived
        return bool(left) or self._lanes.open

    async def run(self) -> None:
        """Give and take until cancelled."""
        lanes = [asyncio.create_task(self._run(lane)) for lane in self._lanes]
        try:
            await asyncio.gather(*lanes)
        finally:
            await end_tasks(*lanes)
            self._arrived.clear()  # they go back when we leave
            self._attend()
            self._delivery.keep(self._outcomes)  # our successor writes them
            if self._due:
                self._due.cancel()

    async def _run(self, lane: Lane) -> None:
        wait = _FIRST_WAIT
        while True:
            if not lane.stirred.is_set():
                self._attend()
            await lane.stirred.wait()
            lane.stirred.clear()
            offer = self._taker.offer(self._lanes.asked(but=lane))
            if not self._is_due(lane, offer):
                continue
            try:
                await self._call(lane, offer)
                wait = _FIRST_WAIT
            except (RedisError, OSError) as error:
                await self._failed(lane, error)
                await asyncio.sleep(spread(wait))
                wait = min(wait * 2, _LONGEST_WAIT)
                lane.stirred.set()
            finally:
                self._outcomes[:0] = lane.end()
            if self._outcomes or self._stirred:
                self._lanes.stir(len(self._outcomes))

    def _is_due(self, lane: Lane, offer: Offer | None) -> bool:
        if lane.unanswered:
            return True
        if self._lanes.calling:
            return self._lanes.worth(offer, len(self._outcomes))
        self._stirred = False
        # Where the queue believes that it waits, it is told otherwise.
        return bool(offer or self._outcomes or self.pushes.room)

    async def _call(self, lane: Lane, offer: Offer | None) -> None:
        self._stirred = False
        self._lanes.begin(lane, offer, self._outcomes)
        if self._answers or self._arrived:
            asyncio.get_running_loop().call_soon(self._attend)  # the call leaves first
        turn = await self._turn(lane.token, offer, lane.given)
        lane.answered(jobs=bool(turn.jobs))
        if turn.again or (not turn.state and self._has_room()):
            self._stirred = True
        if turn.state == "profile" and offer:
            await self._turns.introduce(offer)
        self._taker.hindered(None)

    async def _failed(self, lane: Lane, error: RedisError | OSError) -> None:
        """Keep what it was to write; unless Redis refuses just something of it, which is found.

        Raises:
            RedisError: A fault of ours.
        """
        self._taker.hindered(error)
        self._delivery.keep(lane.given)
        if lane.given and (refused(error) or suspected(lane.given, error)):
            lane.given.sort(key=lambda outcome: outcome.weight)
            with passed_over():
                await self.deliver(lane.given)
        elif not passing(error):
            raise error

    async def _turn(self, token: str, offer: Offer | None, given: list[Outcome]) -> Turn:
        """One call."""
        heard = self.pushes.heard
        turn = await self._turns.call(
            token, offer, given, unbegun=self._taker.unbegun(), heard=self.pushes.word
        )
        self._answers += zip(given, turn.answers, strict=True)
        self._arrived += [(claimed, self._taker.expect(claimed)) for claimed in turn.jobs]
        self.pushes.answered(heard, turn.room(offer), turn.state)
        if turn.due_ms >= 0 or self._due:
            self._wait_for(turn.due_ms)
        return turn

    def _attend(self) -> None:
        """Begin the jobs that came, and tell of the results that were written."""
        answers, self._answers = self._answers, []
        arrived, self._arrived = self._arrived, []
        for outcome, answer in answers:
            self._delivery.answered(outcome, answer, again=self.give)
        for claimed, slot in arrived:
            self._taker.start(claimed, slot)
        if not self.busy:
            self._taker.written()

    def _begin(self, claimed: Claimed) -> None:
        self._taker.start(claimed, self._taker.expect(claimed))
        if self._has_room():
            self.stir()

    def _has_room(self) -> bool:
        """Whether there is room that the queue does not know of: a call asks for half of what the
        worker can do, and that may have been pushed while the call was under way.
        """
        offer = None if self.pushes.room else self._taker.offer(self._lanes.asked())
        return bool(offer and offer.slots)

    def _wait_for(self, due_ms: float) -> None:
        """Look again when a job that waits after a failure is due."""
        if self._due:
            self._due.cancel()
            self._due = None
        if due_ms >= 0:
            loop = asyncio.get_running_loop()
            self._due = loop.call_later(due_ms / 1000 + 0.001, self.stir)

    async def deliver(self, outcomes: list[Outcome]) -> None:
        """Write results without taking jobs: one by one, so that what Redis refuses about one holds
        up no other. Those are left in the list that it could not be asked about.

        Raises:
            RedisError: It is away, or refuses all for a while.
            OSError: Likewise.
        """
        while outcomes:
            outcome = outcomes[0]
            try:
                await self._turn("0", None, [outcome])
                self._attend()
            except (RedisError, OSError) as error:
                said = await self._oversize.found(outcome, error)
                if not (said or refused(error)):
                    raise
                said = said or f"{UNWRITTEN} {error}"
                self._delivery.answered(outcome, said, again=self.give)
            outcomes.remove(outcome)

    async def leave(self, digests: set[str]) -> None:
        """Be counted no more among those who wait for jobs. What was given to us goes back, known
        or not, but for jobs whose results are kept.
        """
        kept = [outcome.job_id for outcome in (*self._outcomes, *self._delivery.put_off)]
        with contextlib.suppress(RedisError, OSError):
            await self._turns.leave(digests, self._lanes.name, kept)
