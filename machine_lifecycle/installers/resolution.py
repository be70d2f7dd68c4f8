"""Which packages: those of all packs that can live beside what is protected, and be had at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import attrs
from packaging.requirements import Requirement

from machine_lifecycle.installers.compiling import Asking, Fault, Unsolved, UvSolver, users_of
from machine_lifecycle.installers.lock import Collapsed
from machine_lifecycle.installers.lock_errors import LockImpossible
from machine_lifecycle.installers.package_names import families
from machine_lifecycle.installers.packages import TORCH_FAMILY
from machine_lifecycle.installers.requirements import Admitted, Place
from machine_lifecycle.installers.solving import Quarantined, Solved, solve

__all__ = ["FOUND", "Resolution", "Resolver"]

FOUND = "found"
"""Instead of a build of torch: that of the Python that was named."""
_MOVES_WITH_TORCH = ("nvidia-", "triton", "pytorch-triton", "cuda-")


class Machine(Protocol):
    """What the packages are for."""

    @property
    def torch(self) -> str:
        """Build of torch, or ``FOUND``."""

    @property
    def versions(self) -> Mapping[str, str]:
        """Of torch and its family where they are there."""

    @property
    def gpu(self) -> bool:
        """Whether packages for GPUs are taken where there are two kinds."""


@attrs.frozen
class Resolution:
    """What came of it.

    Attributes:
        solved: The answer.
        collapsed: Families of which one was taken.
        out: Packs that were left out before, or since something of theirs can't be built.
    """

    solved: Solved
    collapsed: tuple[Collapsed, ...]
    out: tuple[Quarantined, ...]


class Resolver:
    """Finds the packages of one lock."""

    def __init__(self, wanted: Machine, solver: UvSolver, base: Asking) -> None:
        """Nothing is asked yet.

        Args:
            wanted: What the packages are for.
            solver: Answers.
            base: What must be there.
        """
        self._wanted = wanted
        self._solver = solver
        self._base = base
        self._out: list[Quarantined] = []

    async def run(self, packs: Sequence[Asking], out: Sequence[Quarantined]) -> Resolution:
        """Find them, once ``protect`` has ended.

        Args:
            packs: By priority, the highest first.
            out: Those that are left out already.

        Raises:
            LockImpossible: What must be there can't be had, or no index answers.
        """
        self._out = list(out)
        solved, collapsed = await self._buildable(self._base, self._fitting(packs))
        return Resolution(solved, collapsed, tuple(self._out))

    def _fitting(self, packs: Sequence[Asking]) -> list[Asking]:
        """Those that ask for no other torch than the one that is there."""
        gone = {one.pack for one in self._out}
        left = []
        for pack in packs:
            told = [
                f"{line.place}: {line.text}; {line.name} {version} is there"
                for line in pack.lines
                if not line.vcs
                and (version := self._wanted.versions.get(line.name))
                and not Requirement(line.text).specifier.contains(version, prereleases=True)
            ]
            if told:
                one = Quarantined(pack=pack.name, fault=Fault.CONFLICT, told=tuple(told))
                self._out.append(one)
            elif pack.name not in gone:
                left.append(pack)
        return left

    async def protect(self) -> None:
        """Hold torch and what moves with it at the versions that ComfyUI alone comes to. Needs no
        pack.

        Raises:
            LockImpossible: It comes to none, or no index answers.
        """
        if self._wanted.torch == FOUND:
            self._solver = attrs.evolve(self._solver, excluded=TORCH_FAMILY)
            return
        alone = await self._solver([self._base])
        if isinstance(alone, Unsolved):
            raise self._impossible(alone)
        pins = tuple(
            f"{one.name}=={one.version}"
            for one in alone.packages
            if one.version and (one.name in TORCH_FAMILY or one.name.startswith(_MOVES_WITH_TORCH))
        )
        self._solver = attrs.evolve(self._solver, protected=(*self._solver.protected, *pins))

    def _impossible(self, why: Unsolved) -> LockImpossible:
        return LockImpossible(fault=why.fault.value, context=why.told)

    async def _buildable(
        self, base: Asking, packs: Sequence[Asking]
    ) -> tuple[Solved, tuple[Collapsed, ...]]:
        """Solve, and build what has no wheel; packs that need what can't be built are left out."""
        known: set[str] = set()
        while True:
            solved, collapsed = await self._solve(base, packs)
            solution = solved.solution
            wanted = [
                one
                for one in solution.packages
                if one.name in solution.built and one.name not in known
            ]
            failed = await self._solver.build(wanted)
            if not failed:
                return solved, collapsed
            known |= {one.name for one in wanted} - failed.keys()
            out: dict[str, Quarantined] = {}
            for name, told in failed.items():
                users = users_of(solution.packages, name)
                if f"pack:{base.slug}" in users:
                    raise self._impossible(Unsolved(fault=Fault.BUILD, told=told))
                for pack in solved.packs:
                    if f"pack:{pack.slug}" in users:
                        words = (f"{name} can't be built:", *told)
                        out[pack.name] = Quarantined(pack=pack.name, fault=Fault.BUILD, told=words)
            self._out += out.values()
            # Packs that were left out because of one that is out now may fit again.
            packs = [pack for pack in packs if pack.name not in out]

    async def _solve(
        self, base: Asking, packs: Sequence[Asking]
    ) -> tuple[Solved, tuple[Collapsed, ...]]:
        """Solve, then again with one of each family whose members exclude each other."""
        solved = await solve(base, packs, self._solver)
        if isinstance(solved, Unsolved):
            raise self._impossible(solved)
        names = {one.name for one in solved.solution.packages}
        collapsed = []
        for family in families():
            took = family.chosen(names, gpu=self._wanted.gpu)
            others = sorted(names.intersection(family.members) - {took})
            if others:
                collapsed.append(
                    Collapsed(
                        family=family.name, took=took, instead_of=tuple(others), rule=family.rule
                    )
                )
        if not collapsed:
            return solved, ()
        here = Place(file="machine-lifecycle", line=0)
        more = tuple(Admitted(place=here, text=one.took, name=one.took) for one in collapsed)
        gone = tuple(name for one in collapsed for name in one.instead_of)
        solver = attrs.evolve(self._solver, excluded=(*self._solver.excluded, *gone))
        base = attrs.evolve(base, lines=(*base.lines, *more))
        again = await solve(base, solved.packs, solver)
        if isinstance(again, Unsolved):
            raise self._impossible(again)
        both = attrs.evolve(
            again,
            quarantined=(*solved.quarantined, *again.quarantined),
            refused=(*solved.refused, *again.refused),
        )
        return both, tuple(collapsed)
