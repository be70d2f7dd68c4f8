"""Jobs that the queue pushes to a worker which waits, before it asks for them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

from machine_lifecycle.jobs.claims import Claimed
from machine_lifecycle.system import json_codec

__all__ = ["Pushes"]


class Pushes:
    """Takes them in their order, each once.

    The queue numbers what it pushes to one worker. A gap in the numbers is what was told while the
    connection was broken; the next beat brings it, which is due at once then.
    """

    def __init__(self, *, take: Callable[[Claimed], None], stir: Callable[[], None]) -> None:
        """Nothing was pushed yet.

        Args:
            take: Does a job.
            stir: Called when the queue is to be asked for more.
        """
        self.heard: int = 0
        """The number up to which it has heard of what was pushed."""
        self.room: int = 0
        """How many more jobs the queue may push, as far as is known here."""
        self._take = take
        self._stir = stir
        self._expected = False
        """Something is on its way, after which to ask for more."""
        self._missed = asyncio.Event()

    def hear(self, text: str) -> None:
        """One was pushed: its number, its fence and its id as JSON; its fields in the next line."""
        head, _, record = text.partition("\n")
        try:
            number, fence, job_id = head.split(" ", 2)
            mark = int(number)
            claimed = Claimed.from_answer([json_codec.decode(job_id), fence, record])
        except ValueError:  # another party told that here
            return
        if mark == self.heard + 1:
            self.heard = mark
            self.room = max(0, self.room - 1)
            self._take(claimed)
            self._heard()
        elif mark > self.heard:
            self._missed.set()

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
        """Something may have been missed, if anything was waited for."""
        if self.room or self._expected:
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
                self._take(Claimed.from_answer(answer))
        if number > self.heard:
            self.heard = number
            self._heard()

    def _heard(self) -> None:
        if self._expected:
            self._expected = False
            self._stir()
