"""The worker's conversation with the queue: results go out and jobs come in, in one call.

While one call is on its way the results of the next one gather, so that a worker that does many
short jobs at once pays one round trip for a handful of them. A call asks for half of what the
worker can do, so that it works on one half while the queue works on the other: what an answer
brought is begun when the next call has left.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import uuid
from typing import Protocol

from redis.exceptions import RedisError

from machine_lifecycle.jobs.claims import Claimed
from machine_lifecycle.jobs.delivery import Delivery
from machine_lifecycle.jobs.functions import FunctionsWithFiles
from machine_lifecycle.jobs.outcomes import UNWRITTEN, Outcome
from machine_lifecycle.jobs.oversize import Oversize, suspected
from machine_lifecycle.jobs.pushes import Pushes
from machine_lifecycle.jobs.retrying import passed_over, passing, refused
from machine_lifecycle.jobs.slots import Slot
from machine_lifecycle.jobs.turns import MOST, Offer, Turns
from machine_lifecycle.jobs.worker_config import WorkerConfig
from machine_lifecycle.system.redis import spread

__all__ = ["Exchange"]

_LONGEST_WAIT = 1.0


class Offering(Protocol):
    """Who takes jobs."""

    def offer(self) -> Offer | None:
        """What it is ready to take now; ``None`` for nothing."""

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
        self._functions = functions
        self._turns = Turns(functions, config)
        self._config = config
        self._taker = taker
        self._delivery = delivery
        self._oversize = Oversize(functions)
        self._name, self._numbers = uuid.uuid4().hex, itertools.count()
        """Of them the tokens of calls are made."""
        self.pushes: Pushes = Pushes(self._name, take=self._begin, stir=self.stir)
        self._outcomes: list[Outcome] = []
        self._stirred = asyncio.Event()
        self._due: asyncio.TimerHandle | None = None
        self._calling = False
        self._unanswered = False
        """Jobs may have been given to us in an answer that was lost on its way."""
        self._answers: list[tuple[Outcome, str]] = []
        self._arrived: list[tuple[Claimed, Slot]] = []
        """What the last answer brought, until it is attended to."""

    def stir(self) -> None:
        """There may be a job, or room for one."""
        self._stirred.set()

    def listening(self) -> None:
        """What was told until now may have been missed."""
        self.pushes.doubt()
        self.stir()

    def give(self, outcome: Outcome) -> None:
        """Write a result with the next call."""
        self._outcomes.append(outcome)
        self._stirred.set()

    @property
    def busy(self) -> bool:
        """Whether results are still to be written."""
        left = self._outcomes or self._answers or self._arrived
        return bool(left) or self._calling or self._unanswered

    async def run(self) -> None:
        """Give and take until cancelled."""
        try:
            await self._run()
        finally:
            self._arrived.clear()  # they go back when we leave
            self._attend()
            self._delivery.keep(self._outcomes)  # our successor writes them
            if self._due:
                self._due.cancel()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        wait = 0.05
        token = ""
        while True:
            if not self._stirred.is_set():
                self._attend()
            await self._stirred.wait()
            self._stirred.clear()
            offer = self._taker.offer()
            if not (offer or self._outcomes or self._unanswered or self.pushes.room):
                continue  # but where the queue believes that it waits, it is told otherwise
            token = token or f"0{self._name}-{next(self._numbers)}"
            self._calling = True
            if self._answers or self._arrived:
                loop.call_soon(self._attend)  # the call leaves first
            self._unanswered = self._unanswered or offer is not None
            try:
                if await self._turn(token, offer, self._outcomes):
                    token = ""
                wait, self._unanswered = 0.05, False
                self._taker.hindered(None)
            except (RedisError, OSError) as error:
                self._taker.hindered(error)
                self._delivery.keep(self._outcomes)
                if self._outcomes and (refused(error) or suspected(self._outcomes, error)):
                    self._outcomes.sort(key=lambda outcome: outcome.weight)
                    with passed_over():
                        await self.deliver(self._outcomes)
                elif not passing(error):
                    raise
                await asyncio.sleep(spread(wait))
                wait = min(wait * 2, _LONGEST_WAIT)
                self._stirred.set()
            finally:
                self._calling = False
            if self._outcomes:
                self._stirred.set()
            else:
                self._taker.written()

    async def _turn(self, token: str, offer: Offer | None, outcomes: list[Outcome]) -> bool:
        """One call, which takes the first of the list and writes them; whether it brought jobs."""
        given, heard = outcomes[:MOST], self.pushes.heard
        turn = await self._turns.call(token, offer, given, self.pushes.word)
        del outcomes[: len(given)]
        self._answers += zip(given, turn.answers, strict=True)
        self._arrived += [(claimed, self._taker.expect(claimed)) for claimed in turn.jobs]
        self.pushes.answered(heard, turn.room(offer), turn.state)
        if turn.state == "more" or (offer and len(turn.jobs) == offer.wanted < offer.slots):
            self._stirred.set()
        elif turn.state == "profile" and offer:
            await self._turns.introduce(offer)
            self._stirred.set()
        if turn.due_ms >= 0 or self._due:
            self._wait_for(turn.due_ms)
        return bool(turn.jobs)

    def _attend(self) -> None:
        """Begin the jobs that came, and tell of the results that were written."""
        answers, self._answers = self._answers, []
        arrived, self._arrived = self._arrived, []
        for outcome, answer in answers:
            self._delivery.answered(outcome, answer, again=self.give)
        for claimed, slot in arrived:
            self._taker.start(claimed, slot)

    def _begin(self, claimed: Claimed) -> None:
        self._taker.start(claimed, self._taker.expect(claimed))
        # One call asks for some of what the worker can do: once that has come, for more.
        if not self.pushes.room and (offer := self._taker.offer()) and offer.slots:
            self._stirred.set()

    def _wait_for(self, due_ms: float) -> None:
        """Look again when a job that waits after a failure is due."""
        if self._due:
            self._due.cancel()
            self._due = None
        if due_ms >= 0:
            loop = asyncio.get_running_loop()
            self._due = loop.call_later(due_ms / 1000 + 0.001, self._stirred.set)

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
            for digest in digests:
                await self._functions.call(
                    "ml1_leave", self._config.worker_id, digest, self._name, *kept
                )
