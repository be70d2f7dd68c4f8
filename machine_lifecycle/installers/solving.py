"""Which packs can live in one environment: all that can, and of the others who is at fault.

Pure but for the solver that is handed in. Packs come in order of priority: of those that exclude
each other, the last one goes. What it costs: one question where all agree; else one for each pack
alone and one for each pack that has to go, and one more for each of those to see that none went
for nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import attrs

from machine_lifecycle.installers.compiling import Asking, Fault, Solution, Solver, Unsolved
from machine_lifecycle.installers.requirements import Refused, Why

__all__ = ["Quarantined", "Solved", "solve"]

_AT_ONCE = 4
"""Questions at once: each is a process that computes."""


@attrs.frozen(kw_only=True)
class Quarantined:
    """A pack that is left out.

    Attributes:
        pack: Its name.
        fault: Why.
        against: The packs it can't be had with; empty: it fails alone, or against what is
            protected.
        told: The solver's own words.
    """

    pack: str
    fault: Fault
    against: tuple[str, ...] = ()
    told: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class Solved:
    """What came of it.

    Attributes:
        solution: For those that are left.
        packs: Those that are left, in order.
        quarantined: Those that are not.
        refused: By pack, lines whose packages no index has.
        rounds: Questions about several packs at once.
    """

    solution: Solution
    packs: tuple[Asking, ...]
    quarantined: tuple[Quarantined, ...] = ()
    refused: tuple[tuple[str, Refused], ...] = ()
    rounds: int = 0


async def solve(base: Asking, packs: Sequence[Asking], solver: Solver) -> Solved | Unsolved:
    """Find an environment for *base* and as many *packs* as go together.

    Args:
        base: What must be there; if it has no answer alone, that is the outcome.
        packs: By priority, the highest first.
        solver: Answers.
    """
    return await _Search(base, solver).run(packs)


class _NobodyAnswers(Exception):
    def __init__(self, answer: Unsolved) -> None:
        super().__init__(answer)
        self.answer = answer


class _Search:
    def __init__(self, base: Asking, solver: Solver) -> None:
        self._base = base
        self._solver = solver
        self._rounds = 0
        self._quarantined: list[Quarantined] = []
        self._refused: list[tuple[str, Refused]] = []
        self._gone: dict[str, Asking] = {}
        self._order: tuple[str, ...] = ()

    async def run(self, packs: Sequence[Asking]) -> Solved | Unsolved:
        self._order = tuple(pack.name for pack in packs)
        try:
            answer = await self._ask(packs)
            if isinstance(answer, Unsolved):
                if isinstance(alone := await self._put([self._base]), Unsolved):
                    return alone
                packs = await self._alone(packs)
                packs, answer = await self._jointly(packs)
                packs, answer = await self._back(packs, answer)
        except _NobodyAnswers as error:
            return error.answer
        return Solved(
            solution=answer,
            packs=tuple(packs),
            quarantined=tuple(self._quarantined),
            refused=tuple(self._refused),
            rounds=self._rounds,
        )

    async def _ask(self, packs: Sequence[Asking]) -> Solution | Unsolved:
        self._rounds += 1
        return await self._put([self._base, *packs])

    async def _put(self, packs: Sequence[Asking]) -> Solution | Unsolved:
        answer = await self._solver(packs)
        if isinstance(answer, Unsolved) and answer.fault is Fault.UNREACHED:
            raise _NobodyAnswers(answer)  # the index is away: no pack is to blame
        return answer

    async def _alone(self, packs: Sequence[Asking]) -> list[Asking]:
        """Those that have an answer alone, without the lines whose packages nobody has."""
        slots = asyncio.Semaphore(_AT_ONCE)

        async def one(pack: Asking) -> tuple[Asking, Unsolved | None]:
            while True:
                async with slots:
                    answer = await self._put([self._base, pack])
                if isinstance(answer, Solution):
                    return pack, None
                left = self._without(pack, answer.missing)
                if left == pack:
                    return pack, answer
                pack = left

        found = await asyncio.gather(*(one(pack) for pack in packs))
        for pack, failed in found:
            if failed is not None:
                self._leave(pack, failed, ())
        return [pack for pack, failed in found if failed is None]

    def _without(self, pack: Asking, missing: Sequence[str]) -> Asking:
        for line in pack.lines:
            if line.name in missing:
                reason = f"no index that is asked has a package {line.name}"
                refused = Refused(place=line.place, text=line.text, why=Why.UNKNOWN, reason=reason)
                self._refused.append((pack.name, refused))
        return attrs.evolve(
            pack, lines=tuple(line for line in pack.lines if line.name not in missing)
        )

    async def _jointly(self, packs: list[Asking]) -> tuple[list[Asking], Solution]:
        """Take the last pack out of those that exclude each other, until the rest has an answer."""
        left = list(packs)
        while True:
            answer = await self._ask(left)
            if isinstance(answer, Solution):
                return left, answer
            named = [pack for pack in left if pack.slug in answer.packs]
            loser = named[-1] if named else await self._bisect(left)
            against = tuple(pack.name for pack in named if pack is not loser)
            self._leave(loser, answer, against)
            left.remove(loser)

    async def _bisect(self, packs: list[Asking]) -> Asking:
        """The pack at whose place in the order an answer is lost first, if nobody names one."""
        good, bad = 0, len(packs)
        while bad - good > 1:
            middle = (good + bad) // 2
            if isinstance(await self._ask(packs[:middle]), Solution):
                good = middle
            else:
                bad = middle
        return packs[bad - 1]

    async def _back(self, packs: list[Asking], answer: Solution) -> tuple[list[Asking], Solution]:
        """Take back those that went before another did, where that one alone was at fault."""
        out = [one for one in self._quarantined if one.against]
        for one in out[:-1]:
            pack = self._gone[one.pack]
            order = sorted([*packs, pack], key=lambda pack: self._order.index(pack.name))
            again = await self._ask(order)
            if isinstance(again, Solution):
                packs, answer = order, again
                self._quarantined.remove(one)
        return packs, answer

    def _leave(self, pack: Asking, why: Unsolved, against: tuple[str, ...]) -> None:
        self._gone[pack.name] = pack
        self._quarantined.append(
            Quarantined(pack=pack.name, fault=why.fault, against=against, told=why.told)
        )
