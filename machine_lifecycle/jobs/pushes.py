"""Jobs that the queue pushes to a worker which waits, before it asks for them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

from machine_lifecycle.jobs.claims import Claimed

__all__ = ["Pushes"]

_ASKED = "?"
"""The head of what a queue tells that has not heard of a worker since it pushed a job to it."""


class Pushes:
    """Takes them in their order, each once.

    The queue numbers what it pushes to one worker. A gap in the numbers is what was told while the
    connection was broken; the next beat brings it, which is due at once then. A number that was
    heard before is of a server that has forgotten the last ones, as its successor may have.

    Who has the same worker id by mistake hears the same; what is for another process is only
    counted.
    """

    def __init__(
        self, process: str, *, take: Callable[[Claimed], None], stir: Callable[[], None]
    ) -> None:
        """Nothing was pushed yet.

        Args:
            process: The name by which the queue knows that a job is for this process.
            take: Does a job.
            stir: Called when the queue is to be asked for more.
        """
        self.heard: int = 0
        """The number up to which it has heard of what was pushed."""
        self.room: int = 0
        """How many more jobs the queue may push, as far as is known here."""
        self._process = process
        self._known = 0
        """What comes on this connection up to this number was taken, or brought by a beat."""
        self._take = take
        self._stir = stir
        self._expected = False
        """Something is on its way, after which to ask for more."""
        self._missed = asyncio.Event()

    @property
    def word(self) -> str:
        """What the queue is told with each call, as ``ml1_turn`` takes it."""
        return f"{self.heard} {self._process}"

    def hear(self, text: str) -> None:
        """One was pushed: its number, its fence, the process, and its id as JSON; its fields in the
        next line. Or the queue asks whether one was heard of, which the next beat says.
        """
        head, _, record = text.partition("\n")
        if head == _ASKED:
            self._missed.set()
            return
        try:
            number, fence, process, job_id = head.split(" ", 3)
            mark = int(number)
            claimed = Claimed.from_push(job_id, fence, record)
        except (ValueError, TypeError, RecursionError):  # another party told that here
            return
        if mark > self.heard + 1:
            self._missed.set()
        elif mark > self._known:
            self._known = mark
            self.heard = max(self.heard, mark)
            if process == self._process:
                self._accept(claimed)
            self._heard()

    def _accept(self, claimed: Claimed) -> None:
        self.room = max(0, self.room - 1)
        self._take(claimed)

    def answered(self, heard: int, room: int, state: str) -> None:
        """A turn was answered.

        Args:
            heard: What was heard of when it left.
            room: For how many jobs it waits now.
            state: As of ``ml1_turn``.
        """
        self.room = max(0, room - (self.heard - heard))
        self._expected = state == "pushed"
        if self.heard > heard:
            self._heard()

    def doubt(self) -> None:
        """What was told until now may have been missed: jobs, or the question after some."""
        self._known = 0
        if self.room or self._expected or self.heard:
            self._missed.set()

    async def until_missed(self, seconds: float) -> None:
        """Return when something was missed; at the latest after so many seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._missed.wait()
        self._missed.clear()

    def catch_up(self, number: int, jobs: list[list[Any]]) -> None:
        """A beat brought what was missed.

        Args:
            number: Of the last one that was pushed.
            jobs: Those that were not heard of, with their numbers.
        """
        for *answer, mark in jobs:
            if int(mark) > self.heard:  # it did not come meanwhile
                self._accept(Claimed.from_answer(answer))
        self._known = max(self._known, number)
        if number > self.heard:
            self.heard = number
            self._heard()

    def _heard(self) -> None:
        if self._expected:
            self._expected = False
            self._stir()
