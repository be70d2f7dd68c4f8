"""What is done for a result beside the call that writes it: its life on disk."""

from __future__ import annotations

from collections.abc import Iterable

from machine_lifecycle.jobs.outbox import Outbox
from machine_lifecycle.jobs.outcomes import UNWRITTEN, Outcome, refusal

__all__ = ["Delivery"]


class Delivery:
    """Keeps results on disk while Redis is away, and forgets them once it has answered."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._kept: set[str] = set()
        """Jobs whose results are on disk."""

    def tracked(self, outcome: Outcome) -> Outcome:
        """The same, forgotten on disk when it is answered."""

        def answered(said: str) -> None:
            if outcome.job_id in self._kept or said.startswith(UNWRITTEN):
                self._kept.discard(outcome.job_id)
                self._settle(outcome, said)
            outcome.answered(said)

        return outcome.telling(answered)

    def keep(self, outcomes: Iterable[Outcome]) -> None:
        """These can't be written now: Redis is away, or refuses them for a while."""
        for outcome in outcomes:
            self._kept.add(outcome.job_id)
            self._outbox.keep(outcome)

    def left(self) -> list[Outcome]:
        """Results that an earlier run of this worker left."""
        return list(self._outbox.left(self._settle))

    def _settle(self, outcome: Outcome, said: str) -> None:
        if said.startswith(UNWRITTEN):  # for the next start of this worker, or whoever looks
            self._outbox.keep(outcome, reason=refusal(said))
        else:
            self._outbox.forget(outcome)
