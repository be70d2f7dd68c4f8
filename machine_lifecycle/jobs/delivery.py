"""What is done for a result beside the call that writes it: its life on disk, and its waiting."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from redis.exceptions import ResponseError

from machine_lifecycle.jobs.outbox import Outbox
from machine_lifecycle.jobs.outcomes import UNWRITTEN, Outcome, refusal
from machine_lifecycle.jobs.retrying import passing
from machine_lifecycle.system.redis import spread

__all__ = ["Delivery"]

_PUT_OFF = 5.0
"""Seconds until a result is tried again that Redis refused, while it took others."""


class Delivery:
    """Keeps results on disk while Redis is away, and forgets them once it has answered."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._kept: set[str] = set()
        """Jobs whose results are on disk."""
        self.put_off: list[Outcome] = []
        """Results that are tried again a little later."""

    def answered(self, outcome: Outcome, answer: str, *, again: Callable[[Outcome], None]) -> None:
        """The queue said so. What Redis refuses for a while is kept, and given *again* later."""
        unwritten = answer.startswith(UNWRITTEN)
        if not (unwritten and passing(ResponseError(refusal(answer)))):
            if unwritten or outcome.job_id in self._kept:
                self._kept.discard(outcome.job_id)
                self._settle(outcome, answer)
            outcome.answered(answer)
            return

        def give() -> None:
            self.put_off.remove(outcome)
            again(outcome)

        self.keep([outcome])
        self.put_off.append(outcome)
        asyncio.get_running_loop().call_later(spread(_PUT_OFF), give)

    def keep(self, outcomes: Iterable[Outcome]) -> None:
        """These can't be written now: Redis is away, or refuses them for a while."""
        for outcome in outcomes:
            self._kept.add(outcome.job_id)
            self._outbox.keep(outcome)

    def left(self) -> list[Outcome]:
        """Results that an earlier run of this worker left."""
        found = list(self._outbox.left())
        self._kept.update(outcome.job_id for outcome in found)
        return found

    def _settle(self, outcome: Outcome, said: str) -> None:
        if said.startswith(UNWRITTEN):  # for the next start of this worker, or whoever looks
            self._outbox.keep(outcome, reason=refusal(said))
        else:
            self._outbox.forget(outcome)
