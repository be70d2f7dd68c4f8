"""Making a lock: commits are found, requirements read and solved; nothing is installed."""

from __future__ import annotations

import asyncio
import platform as this_platform
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import attrs
from packaging.requirements import Requirement

from machine_lifecycle.installers.blocklist import blocked_by
from machine_lifecycle.installers.compiling import Asking, Fault, UvSolver, apart
from machine_lifecycle.installers.errors import HostDown
from machine_lifecycle.installers.git_errors import GitCloneFailed, GitUrlRefused
from machine_lifecycle.installers.lock import Lock, LockedLine, LockedRepository
from machine_lifecycle.installers.lock_errors import PackImpossible
from machine_lifecycle.installers.packages import TORCH_FAMILY
from machine_lifecycle.installers.repository import Repository
from machine_lifecycle.installers.requirements import (
    Admitted,
    Place,
    Reading,
    Refused,
    environment_of,
)
from machine_lifecycle.installers.resolution import FOUND, Resolution, Resolver
from machine_lifecycle.installers.solving import Quarantined
from machine_lifecycle.installers.sources import Snapshot, Sources
from machine_lifecycle.model.text import human_seconds

__all__ = ["FOUND", "Wanted", "WantedPack", "came_back", "differences", "make_lock"]

_NOT_HAD = (GitCloneFailed, GitUrlRefused, HostDown)


@attrs.frozen(kw_only=True)
class WantedPack:
    """One pack of the list.

    Attributes:
        name: Its folder.
        repository: Where it is.
        requirements: Whether what it requires is installed.
        required: Whether there is no lock without it.
        blocked: Why it is never installed; ``None``: it may be.
    """

    name: str
    repository: Repository
    requirements: bool = False
    required: bool = False
    blocked: str | None = None


@attrs.frozen(kw_only=True)
class Wanted:
    """What a lock is made of.

    Attributes:
        comfyui: ComfyUI's repository.
        packs: By priority, the highest first.
        also: Requirements beside those of ComfyUI's file.
        python: Version that is solved for, ``3.12.4``.
        interpreter: One of that version.
        torch: Build of torch in uv's words; ``found``: ``versions`` are there; empty: the index's.
        versions: Of torch and its family where they are there.
        gpu: Whether packages for GPUs are taken where there are two kinds.
        exclude_newer: Only packages older than this are looked at.
        at_once: Repositories that are asked at once.
        blocked: Files of constraints that keep out what is never installed.
        patience: Seconds that repositories of packs which are not required are waited for; 0: as
            long as it takes.
    """

    comfyui: Repository
    packs: tuple[WantedPack, ...] = ()
    also: tuple[str, ...] = ()
    python: str = sys.version.split()[0]
    interpreter: Path = Path(sys.executable)
    torch: str = ""
    versions: Mapping[str, str] = attrs.field(factory=dict)
    gpu: bool = False
    exclude_newer: str = ""
    at_once: int = 16
    blocked: tuple[Path, ...] = ()
    patience: float = 0.0

    def entries(self) -> tuple[LockedRepository, ...]:
        """ComfyUI and each pack, as a lock speaks of them before anybody was asked."""
        packs = (_entry(one.repository, one.name, one.requirements) for one in self.packs)
        return (_entry(self.comfyui, "", True), *packs)  # noqa: FBT003 - ComfyUI has requirements

    def facts(self) -> dict[str, str]:
        """What a lock is for: Python, system, build of torch, newest packages that are taken."""
        return {
            "python": ".".join(self.python.split(".")[:2]),
            "platform": f"{sys.platform}-{this_platform.machine()}",
            "torch": self.torch,
            "exclude_newer": self.exclude_newer,
        }


def _entry(repository: Repository, name: str, requirements: bool) -> LockedRepository:  # noqa: FBT001
    return LockedRepository(
        name=name,
        url=repository.plain_url,
        wanted=repository.commit or repository.branch,
        recursive=repository.recursive,
        requirements=requirements,
    )


def differences(lock: Lock, wanted: Wanted) -> tuple[str, ...]:
    """In what a lock is not that of *wanted*, a line each; nobody is asked, nothing is solved.

    A lock may have what is blocked by now, which is not installed.
    """
    found = [
        f"{name} is {getattr(lock, name) or 'not said'}, {value or 'none'} is wanted"
        for name, value in wanted.facts().items()
        if getattr(lock, name) != value
    ]
    have = {one.name: one for one in (lock.comfyui, *lock.packs)}
    want = {one.name: one for one in wanted.entries()}
    found += [f"pack {name} is not locked" for name in want if name not in have]
    found += [f"pack {name} is no longer listed" for name in have if name not in want]
    found += [
        f"{f'pack {name}' if name else 'ComfyUI'} is listed otherwise than it was locked"
        for name, one in want.items()
        if name in have and have[name].entry != one.entry
    ]
    blocked = {one.pack for one in lock.quarantined if one.fault is Fault.BLOCKED}
    free = (one.name for one in wanted.packs if one.blocked is None)
    found += [f"pack {name} is blocked no longer" for name in free if name in blocked]
    found += blocked_by(wanted.blocked, {one.name: one.version for one in lock.packages})
    return tuple(found)


async def make_lock(
    wanted: Wanted,
    sources: Sources,
    solver: UvSolver,
    *,
    previous: Lock | None = None,
    upgrade: Collection[str] | None = (),
) -> Lock:
    """Make it.

    Args:
        wanted: What of.
        sources: Fetches commits.
        solver: For that Python, with where packages come from; what is protected is added.
        previous: What it says of commits and versions is kept where nothing stands against it.
        upgrade: Names of packs whose commits are looked up anew; ``None``: everything anew.

    Raises:
        LockImpossible: ComfyUI's own packages can't be had, or no index answers.
        PackImpossible: A required pack can't be had.
        GitCloneFailed: ComfyUI can't be had.
    """
    made = await _Locking(wanted, sources, previous, upgrade).run(solver)
    for one in made.quarantined:
        for pack in wanted.packs:
            if pack.required and pack.name == one.pack:
                raise PackImpossible(
                    pack=one.pack,
                    fault=one.fault.value,
                    against=one.against,
                    url=pack.repository.plain_url,
                    context=one.told,
                )
    return made


async def came_back(wanted: Wanted, sources: Sources, lock: Lock) -> bool:
    """Whether a pack that could not be reached when a lock was made can be reached now, with all
    repositories that it requires. Nothing is solved.
    """
    for pack in wanted.packs:
        if pack.name in lock.out_of_reach:
            looking = _Locking(attrs.evolve(wanted, packs=(pack,)), sources, lock, ())
            if await looking.reaches(pack):
                return True
    return False


class _Locking:
    def __init__(
        self,
        wanted: Wanted,
        sources: Sources,
        previous: Lock | None,
        upgrade: Collection[str] | None,
    ) -> None:
        self._wanted = wanted
        self._sources = sources
        self._kept = (
            {}
            if previous is None or upgrade is None
            else {one.name: one for one in (previous.comfyui, *previous.packs)}
        )
        for name in upgrade or ():
            self._kept.pop(name, None)
        self._prefer = previous.packages if previous and upgrade is not None else ()
        self._environment = environment_of(wanted.python)
        self._blocked = {one.name: one.blocked for one in wanted.packs}
        self._out: list[Quarantined] = []
        self._slots = asyncio.Semaphore(wanted.at_once)
        self._required = {"", *(one.name for one in wanted.packs if one.required)}
        self._until = asyncio.get_running_loop().time() + wanted.patience

    def _waiting(self, pack: str) -> asyncio.Timeout:
        """Around what is asked for a pack: one that is not required is waited for so long."""
        bound = self._wanted.patience and pack not in self._required
        return asyncio.timeout_at(self._until if bound else None)

    async def reaches(self, pack: WantedPack) -> bool:
        """Whether a pack can be had, with all repositories that it requires."""
        entry = _entry(pack.repository, pack.name, pack.requirements)
        entry, reading = await self._look(entry, pack.repository)
        await self._asking(entry, reading)
        return not self._out

    async def run(self, solver: UvSolver) -> Lock:
        repositories = (self._wanted.comfyui, *(one.repository for one in self._wanted.packs))
        looks = [
            asyncio.create_task(self._look(entry, repository))
            for entry, repository in zip(self._wanted.entries(), repositories, strict=True)
        ]
        prefer = {one.name: one for one in (*solver.prefer, *self._prefer)}
        solver = attrs.evolve(solver, prefer=tuple(prefer.values()))
        try:
            comfyui = await looks[0]
            resolver = Resolver(self._wanted, solver, await self._base(comfyui[1]))
            await resolver.protect()  # while packs are fetched
            packs = await asyncio.gather(*looks[1:])
        finally:  # without ComfyUI itself, nobody else need be asked
            for look in looks:
                look.cancel()
            await asyncio.gather(*looks, return_exceptions=True)
        asking = [
            await self._asking(entry, reading) for entry, reading in packs if entry.requirements
        ]
        resolution = await resolver.run(apart(asking), self._out)
        return self._lock([comfyui[0], *(entry for entry, _ in packs)], resolution)

    async def _look(
        self, entry: LockedRepository, repository: Repository
    ) -> tuple[LockedRepository, Reading]:
        """Find and fetch the commit of one repository, and read what it requires."""
        kept = self._kept.get(entry.name)
        if (why := self._blocked.get(entry.name)) is not None:
            self._out.append(Quarantined(pack=entry.name, fault=Fault.BLOCKED, told=(why,)))
            return entry, Reading()
        try:
            async with self._waiting(entry.name), self._slots:
                same = kept is not None and kept.entry == entry.entry and kept.commit
                commit = (kept.commit if kept and same else "") or await self._sources.newest(
                    repository
                )
                found = await self._sources.fetch(repository, commit)
                self._sources.ctx.report(f"{entry.name or 'ComfyUI'} is {commit[:12]}")
                reading = Reading()
                if entry.requirements:
                    reading = await self._sources.requirements(found, self._environment)
        except (*_NOT_HAD, TimeoutError) as error:
            if not entry.name:
                raise
            told = self._words_of(error, repository)
            self._out.append(Quarantined(pack=entry.name, fault=Fault.SOURCE, told=told))
            return entry, Reading()
        return _found(entry, found, reading), reading

    async def _asking(self, entry: LockedRepository, reading: Reading) -> Asking:
        """A pack for the solver: repositories that it requires are pinned."""
        lines = []
        for line in reading.wanted:
            if line.vcs:
                where = Repository(url=line.vcs, branch=line.revision)
                if _is_hash(line.revision):
                    where = Repository(url=line.vcs, commit=line.revision)
                try:
                    async with self._waiting(entry.name):
                        commit = await self._sources.resolve(where)
                except (*_NOT_HAD, TimeoutError) as error:
                    told = (f"{line.place}: {line.text}", *self._words_of(error, where))
                    self._out.append(Quarantined(pack=entry.name, fault=Fault.SOURCE, told=told))
                    return Asking(name=entry.name)
                lines.append(attrs.evolve(line, text=line.pinned(commit)))
                continue
            address = Requirement(line.text).url
            if address and not self._sources.origins.allows(address):
                told = (f"{line.place}: {line.text}: its host is not allowed",)
                self._out.append(Quarantined(pack=entry.name, fault=Fault.SOURCE, told=told))
                return Asking(name=entry.name)
            lines.append(line)
        return Asking(name=entry.name, lines=tuple(lines), bounds=reading.constraints)

    def _words_of(self, error: Exception, repository: Repository) -> tuple[str, ...]:
        """Why a repository can't be had, without the paths of this machine."""
        if isinstance(error, HostDown):
            return (error.summary,)
        if isinstance(error, GitCloneFailed):
            return f"{repository.shown}: {error.cause.value}", *error.context
        if isinstance(error, GitUrlRefused):
            return f"{repository.shown}: {error.problem}", *error.context
        within = human_seconds(self._wanted.patience)
        return (f"{repository.shown}: not had within {within} (MACHINE_PACKS_TIMEOUT)",)

    async def _base(self, reading: Reading) -> Asking:
        here = Place(file="machine-lifecycle", line=0)
        more = () if self._wanted.torch == FOUND else TORCH_FAMILY
        also = tuple(
            Admitted(place=here, text=text, name=Requirement(text).name)
            for text in (*self._wanted.also, *more)
        )
        pack = await self._asking(_entry(self._wanted.comfyui, "comfyui", True), reading)  # noqa: FBT003
        return attrs.evolve(pack, lines=(*pack.lines, *also))

    def _lock(
        self,
        entries: Sequence[LockedRepository],
        resolution: Resolution,
    ) -> Lock:
        solved = resolution.solved
        refused: dict[str, tuple[LockedLine, ...]] = {}
        for name, line in solved.refused:
            refused[name] = (*refused.get(name, ()), _line(line))
        comfyui, *packs = (
            attrs.evolve(one, refused=(*one.refused, *refused.get(one.name, ()))) for one in entries
        )
        order = [pack.name for pack in packs]
        out = (*resolution.out, *solved.quarantined)
        return Lock(
            **self._wanted.facts(),
            comfyui=comfyui,
            packs=tuple(packs),
            quarantined=tuple(sorted(out, key=lambda one: order.index(one.pack))),
            packages=solved.solution.packages,
            built=solved.solution.built,
            collapsed=resolution.collapsed,
        )


def _found(entry: LockedRepository, found: Snapshot, reading: Reading) -> LockedRepository:
    return attrs.evolve(
        entry,
        commit=found.commit,
        tree=found.tree,
        submodules=found.submodules,
        refused=tuple(_line(line) for line in reading.refused),
    )


def _line(line: Refused) -> LockedLine:
    return LockedLine(place=str(line.place), text=line.text, why=line.why.value, reason=line.reason)


def _is_hash(revision: str) -> bool:
    short = 7  # what git shows of a hash; a branch of seven such letters is rarer than that
    return len(revision) >= short and all(letter in "0123456789abcdef" for letter in revision)
