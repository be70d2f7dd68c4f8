"""The call with which a worker gives results and takes jobs, as the queue knows it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import attrs

from machine_lifecycle.jobs.claims import Claimed
from machine_lifecycle.jobs.functions import FunctionsWithFiles
from machine_lifecycle.jobs.outcomes import Outcome
from machine_lifecycle.jobs.outputs import KEPT
from machine_lifecycle.jobs.worker_config import WorkerConfig

__all__ = ["MOST", "Offer", "Turn", "Turns"]

MOST = 1000
"""Jobs, and results, in one call: Lua passes on no more than 8000 words at once."""


@attrs.frozen
class Offer:
    """What a worker is ready to take.

    Attributes:
        digest: Names its capabilities.
        capabilities: As JSON, told when the queue does not know the digest.
        slots: How many jobs.
        whole: How many it takes while none runs.
        ahead: How many more may be fetched, to begin when others end.
    """

    digest: str
    capabilities: str
    slots: int
    whole: int
    ahead: int = 0

    @property
    def half(self) -> int:
        """Half of what it takes while none runs."""
        return -(-self.whole // 2)

    @property
    def wanted(self) -> int:
        """How many jobs to ask for in one call."""
        return min(self.slots, self.half, MOST)


@attrs.frozen
class Turn:
    """What the queue answered.

    Attributes:
        answers: What became of each result.
        jobs: Those that were claimed.
        state: ``more``, ``profile``, ``pushed`` or ``drained``, see ``ml1_turn``; empty: the worker
            waits from here on, unless it has all that it asked for.
        due_ms: Milliseconds until a job that waits after a failure may run; below 0 for none.
    """

    answers: tuple[str, ...]
    jobs: tuple[Claimed, ...]
    state: str
    due_ms: float

    @property
    def again(self) -> bool:
        """Whether to ask again at once."""
        return self.state in {"more", "profile"}

    def room(self, offer: Offer | None) -> int:
        """For how many jobs the worker waits now, as the queue knows it."""
        return max(0, offer.wanted - len(self.jobs)) if offer and not self.state else 0


class Turns:
    """Calls in the name of one worker."""

    def __init__(self, functions: FunctionsWithFiles, config: WorkerConfig) -> None:
        self._functions = functions
        self._config = config

    async def call(
        self,
        token: str,
        offer: Offer | None,
        outcomes: Sequence[Outcome],
        *,
        unbegun: int,
        heard: str,
    ) -> Turn:
        """Write results, and claim jobs.

        Args:
            token: Names the call: repeated, as its answer was lost, it gets the same jobs.
            offer: What is taken; ``None``: nothing, and nothing is waited for.
            outcomes: Results, at most ``MOST``.
            unbegun: How many jobs it has that were fetched ahead.
            heard: As of ``Pushes.word``.

        Raises:
            RedisError: It refuses, or is away.
            OSError: It is away.
        """
        words: list[str | int] = [
            self._config.worker_id,
            self._config.machine_id,
            offer.digest if offer else "",
            token,
            self._config.lease_ms,
            _asked(offer, unbegun),
        ]
        files: dict[str, bytes] = {}
        for outcome in outcomes:
            words.extend(outcome.arguments)
            files.update(outcome.outputs)
        words.append(heard)
        answers, jobs, state, due = (
            await self._functions.call_after(files, KEPT, "ml1_turn", *words)
            if files
            else await self._functions.call("ml1_turn", *words)
        )
        claimed = tuple(map(Claimed.from_answer, jobs))
        return Turn(tuple(map(str, answers)), claimed, state, float(due))

    async def introduce(self, offer: Offer) -> None:
        """Tell what the worker can do."""
        worker, cursor = self._config.worker_id, ""
        while cursor != "0":
            told = await self._functions.call(
                "ml1_profile", worker, offer.digest, offer.capabilities, cursor
            )
            cursor = str(told)

    async def leave(self, digests: Iterable[str], process: str, kept: Sequence[str]) -> None:
        """Take no more jobs.

        Args:
            digests: Names of all that was offered.
            process: Of it the tokens of calls were made.
            kept: Jobs that stay the worker's; whatever else it was given goes back.

        Raises:
            RedisError: It refuses, or is away.
            OSError: It is away.
        """
        for digest in digests:
            await self._functions.call("ml1_leave", self._config.worker_id, digest, process, *kept)


def _asked(offer: Offer | None, unbegun: int) -> str:
    wanted, ahead = (offer.wanted, offer.ahead) if offer else (0, 0)
    return f"{wanted}+{ahead}-{unbegun}" if ahead or unbegun else str(wanted)
