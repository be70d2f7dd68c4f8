"""Calls of a worker to the queue that may be under way at the same time."""

from __future__ import annotations

import asyncio
import itertools
import uuid
from collections.abc import Iterator

import attrs

from machine_lifecycle.jobs.outcomes import Outcome
from machine_lifecycle.jobs.turns import MOST, Offer

__all__ = ["Lane", "Lanes"]

_FEWEST = 2
"""Results that are worth a second call: for one alone it costs more than it saves."""


@attrs.define(eq=False)
class Lane:
    """One call after the other.

    Attributes:
        number: Of it. The queue remembers the last answer of each.
        token: Names the call: repeated, as its answer was lost, it has the same one.
        given: The results that the call under way writes.
        asked: How many jobs it may bring.
        calling: Whether it is under way, or failed and is repeated soon.
        unanswered: Jobs may have been given to us in an answer that was lost on its way.
        stirred: Set to have it call.
    """

    number: int
    token: str = ""
    given: list[Outcome] = attrs.field(factory=list)
    asked: int = 0
    calling: bool = False
    unanswered: bool = False
    stirred: asyncio.Event = attrs.field(factory=asyncio.Event)

    def answered(self, *, jobs: bool) -> None:
        """The answer has come, with jobs or without."""
        self.given, self.asked, self.unanswered = [], 0, False
        if jobs:
            self.token = ""

    def end(self) -> list[Outcome]:
        """The call is over; what it has not written."""
        left, self.given, self.calling = self.given, [], False
        return left


class Lanes:
    """Two: while the queue works on one call, the worker works on what the other one brought.

    The second one is for who is busy: it is used once enough results wait to be worth a call, and
    asks for jobs in their place. A few results wait for the call under way to come back.
    """

    def __init__(self) -> None:
        self.name: str = uuid.uuid4().hex
        """Of it the tokens of calls are made."""
        self._numbers = itertools.count()
        self._both = Lane(0), Lane(1)
        self._handful = _FEWEST
        """So many results are worth a second call."""

    def __iter__(self) -> Iterator[Lane]:
        return iter(self._both)

    def asked(self, *, but: Lane | None = None) -> int:
        """How many jobs the calls under way may bring."""
        first, second = self._both
        return first.asked + second.asked - (but.asked if but else 0)

    @property
    def calling(self) -> bool:
        """Whether a call is under way."""
        first, second = self._both
        return first.calling or second.calling

    @property
    def open(self) -> bool:
        """Whether an answer is still to come, or to be asked for again."""
        return any(lane.calling or lane.unanswered for lane in self._both)

    def stir(self, results: int) -> None:
        """Have a call made if one is due, as so many results wait."""
        first, second = self._both
        free = second if first.calling else first
        if not free.calling and (results >= self._handful or not self.calling):
            free.stirred.set()

    def worth(self, offer: Offer | None, results: int) -> bool:
        """Whether a second call is."""
        return offer is not None and min(results, offer.wanted) >= self._handful

    def begin(self, lane: Lane, offer: Offer | None, outcomes: list[Outcome]) -> None:
        """A call leaves, with results that it takes off the list: all, or one half where the other
        half is worth the second call.
        """
        if offer:
            self._handful = max(offer.half, _FEWEST)
            lane.asked = offer.wanted + offer.ahead
            lane.unanswered = True
        left = offer.slots - offer.wanted if offer else 0  # for the second call to ask for
        shared = min(len(outcomes) // 2, left) >= self._handful
        most = min(-(-len(outcomes) // 2) if shared else len(outcomes), MOST)
        lane.given, outcomes[:most] = outcomes[:most], []
        lane.token = lane.token or f"{lane.number}{self.name}-{next(self._numbers)}"
        lane.calling = True
        self.stir(len(outcomes))
