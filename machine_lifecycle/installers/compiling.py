"""One question to the solver: which versions satisfy all of these packs at once, or why none do.

The solver is ``uv pip compile``. Each pack is handed to it as an empty wheel that requires the
pack's lines, so that its answer speaks of packs: which one wants what, and which of them can't be
had together, through however many packages. Nothing has to be guessed from a package's name.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import sys
import tempfile
from collections.abc import Collection, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Protocol

import attrs
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from machine_lifecycle.installers.requirements import Admitted
from machine_lifecycle.installers.standins import empty_wheel
from machine_lifecycle.installers.uv_program import uv_program
from machine_lifecycle.model.installing import StepContext

__all__ = [
    "Asking",
    "Fault",
    "LockedPackage",
    "Solution",
    "Solver",
    "Unsolved",
    "UvSolver",
    "apart",
    "read",
    "users_of",
]

_PREFIX = "machine-lifecycle-pack-"
_NAMED = re.compile(rf"{_PREFIX}([0-9a-z][0-9a-z-]*?)(?=[=\s,.)`]|$)")
_PACKAGE = re.compile(
    r"^(?P<name>[A-Za-z0-9][\w.-]*)(?:==(?P<version>[^\s;\\]+)| @ (?P<url>[^\s;\\]+))"
)
_HASH = re.compile(r"--hash=(\S+)")
_NOT_FOUND = re.compile(r"Because (\S+) was not found in the (?:package registry|provided package)")
_NO_WHEEL = re.compile(r"has no wheels? with a matching|no wheels are available with a matching")
_UNBUILT = re.compile(r"Wheels are required for `([^`]+)`")
_NOT_BUILT = re.compile(
    r"Failed to build|Failed to download and build|build backend|Building source"
)
_UNREACHED = re.compile(r"Failed to fetch|Could not connect|error sending request|dns error")
_BUILDS = 80
"""Packages without a wheel that one question may come across, each by a further try."""
_AT_ONCE = 2
"""Builds at once: a compiler takes what processors there are."""
_TOLD = 12
"""Lines of the solver's own words that are kept."""


class Fault(Enum):
    """Why a question has no answer, as far as the solver's words tell."""

    CONFLICT = "conflict"
    NO_WHEEL = "no-wheel-for-this-python"
    BUILD = "build-failed"
    UNKNOWN = "not-on-index"
    UNREACHED = "index-not-reached"
    SOURCE = "repository-not-had"
    BLOCKED = "blocked"
    OTHER = "other"


@attrs.frozen(kw_only=True)
class Asking:
    """One pack, as the solver sees it.

    Attributes:
        name: Its folder.
        lines: What it requires; repositories pinned.
        bounds: Its own constraints.
        alias: What the solver calls it, where another pack's name comes to the same.
    """

    name: str
    lines: tuple[Admitted, ...] = ()
    bounds: tuple[Admitted, ...] = ()
    alias: str = ""

    @property
    def slug(self) -> str:
        """The name as the solver says it."""
        return self.alias or canonicalize_name(
            re.sub(r"[^A-Za-z0-9.]+", "-", self.name).strip("-.") or "pack"
        )


def apart(packs: Sequence[Asking]) -> list[Asking]:
    """Each with a name of its own for the solver."""
    taken: dict[str, int] = {"comfyui": 1}
    found = []
    for pack in packs:
        slug = pack.slug
        taken[slug] = taken.get(slug, 0) + 1
        alias = f"{slug}-{taken[slug]}" if taken[slug] > 1 else ""
        found.append(attrs.evolve(pack, alias=alias))
    return found


@attrs.frozen(kw_only=True)
class LockedPackage:
    """One package of an answer.

    Attributes:
        name: Canonical.
        version: Exact; empty for one from an address.
        url: Address with its commit; empty for one from the index.
        hashes: Of all its files that fit this system, ``sha256:…``.
        wanted_by: Packs and packages that require it.
    """

    name: str
    version: str = ""
    url: str = ""
    hashes: tuple[str, ...] = ()
    wanted_by: tuple[str, ...] = ()

    @property
    def line(self) -> str:
        """As a line of a requirements file."""
        text = f"{self.name} @ {self.url}" if self.url else f"{self.name}=={self.version}"
        return " ".join((text, *(f"--hash={one}" for one in self.hashes)))


@attrs.frozen(kw_only=True)
class Solution:
    """An answer.

    Attributes:
        packages: In order of their names.
        built: Names of those without a wheel, whose own code builds one.
    """

    packages: tuple[LockedPackage, ...] = ()
    built: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class Unsolved:
    """No answer.

    Attributes:
        fault: The kind.
        packs: Slugs of the packs that the solver names: those that can't be had together.
        missing: Names that no index has.
        told: The solver's own words, secrets masked.
    """

    fault: Fault
    packs: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    told: tuple[str, ...] = ()


def users_of(packages: Sequence[LockedPackage], name: str) -> frozenset[str]:
    """Packs and packages that need a package, directly or by way of others."""
    by = {one.name: one.wanted_by for one in packages}
    found: set[str] = set()
    more = {name}
    while more:
        more = {user for one in more for user in by.get(one, ())} - found
        found |= more
    return frozenset(found)


class Solver(Protocol):
    """Answers questions about packs."""

    async def __call__(self, packs: Sequence[Asking]) -> Solution | Unsolved:
        """Solve these packs together with what is protected. Called several at once."""


def read(text: str) -> tuple[LockedPackage, ...]:
    """The packages in what ``uv pip compile`` writes, with hashes and the reasons of each."""
    found: list[LockedPackage] = []
    for line in text.replace("\\\n", " ").splitlines():
        if named := _PACKAGE.match(line):
            found.append(
                LockedPackage(
                    name=canonicalize_name(named["name"]),
                    version=named["version"] or "",
                    url=named["url"] or "",
                    hashes=tuple(sorted(_HASH.findall(line))),
                )
            )
        elif found and line.strip().startswith("# via"):
            names = line.partition("# via")[2].split(",")
            # The question's own file holds what uv takes from direct requirements alone.
            stripped = (name.strip() for name in names)
            wanted = sorted(_shown(name) for name in stripped if name[:1] not in {"", "-"})
            found[-1] = attrs.evolve(found[-1], wanted_by=tuple(wanted))
    return tuple(sorted(found, key=lambda one: one.name))


def _shown(name: str) -> str:
    """A pack by its slug; a package by its name."""
    return f"pack:{name.removeprefix(_PREFIX)}" if name.startswith(_PREFIX) else name


@attrs.frozen(kw_only=True)
class UvSolver:
    """Asks uv.

    Attributes:
        ctx: Runs it.
        env: The environment it gets: indexes, credentials, cache.
        folder: For the files that it reads; removed by whoever made it.
        python: Interpreter whose version and system are solved for.
        protected: Lines that hold in every answer, such as the versions of torch.
        excluded: Packages that are taken as there: nothing asks an index for them.
        prefer: Versions that are kept where nothing stands against them.
        stand_ins: Digests of files that only stand for what is installed: no hashes of anything.
        options: Further words for uv.
        whole: Whether a pack of whose lines nobody has a package has no answer; else it is told
            which lines those are.
    """

    ctx: StepContext
    env: Mapping[str, str] = attrs.field(repr=False)
    folder: Path
    python: Path = Path(sys.executable)
    protected: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()
    prefer: tuple[LockedPackage, ...] = ()
    stand_ins: frozenset[str] = frozenset()
    options: tuple[str, ...] = ()
    whole: bool = False

    async def __call__(self, packs: Sequence[Asking]) -> Solution | Unsolved:
        """Solve these packs together; packages without a wheel are built, and told."""
        self.folder.mkdir(parents=True, exist_ok=True)
        place = Path(tempfile.mkdtemp(prefix="question-", dir=self.folder))
        argv = self._question(place, packs)
        built = {line.name for pack in packs for line in pack.lines if line.vcs and line.name}
        if any(line.vcs and not line.name for pack in packs for line in pack.lines):
            # Which package a bare address holds is known from the first answer.
            asked = await self.ctx.run_command(argv, env=self.env, check=False)
            if asked.status:
                return self._unsolved(asked.tail)
            built |= {one.name for one in self._answer(place, packs) if one.url}
        for _ in range(_BUILDS):
            more = [word for name in sorted(built) for word in ("--no-binary", name)]
            words = [*argv, "--only-binary", ":all:", *more]
            asked = await self.ctx.run_command(words, env=self.env, check=False)
            if asked.status == 0:
                return Solution(packages=self._answer(place, packs), built=tuple(sorted(built)))
            without = set(_UNBUILT.findall("\n".join(asked.tail))) - built
            if not without:
                return self._unsolved(asked.tail)
            built |= without
        return Unsolved(fault=Fault.BUILD, told=tuple(sorted(built)))

    async def build(self, packages: Sequence[LockedPackage]) -> dict[str, tuple[str, ...]]:
        """Build packages from their sources, as an installation would, and throw that away; what
        uv keeps of it in its cache makes that installation short.

        Returns:
            Those that can't be built, by name, with their builds' last words.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        slots = asyncio.Semaphore(_AT_ONCE)

        async def one(package: LockedPackage) -> tuple[str, ...]:
            async with slots:
                place = Path(tempfile.mkdtemp(prefix="build-", dir=self.folder))
                wanted = place / "wanted.txt"
                wanted.write_text(f"{package.line}\n", "utf-8")
                self.ctx.report(f"building {package.name}, which has no wheel")
                argv = [uv_program(), "pip", "install", "--quiet", "--no-deps"]
                where = ("--target", str(place / "built"), "--python", str(self.python))
                words = [*argv, *where, "-r", str(wanted)]
                done = await self.ctx.run_command(words, env=self.env, check=False)
                shutil.rmtree(place)
            reached = _UNREACHED.search("\n".join(done.tail)) is None
            return done.tail[-_TOLD:] if done.status and reached else ()

        told = await asyncio.gather(*(one(package) for package in packages))
        pairs = zip(packages, told, strict=True)
        return {package.name: words for package, words in pairs if words}

    def _question(self, place: Path, packs: Sequence[Asking]) -> list[str]:
        """Write the files of a question; the command that asks it."""
        direct = [_wheel(place, pack) for pack in packs]
        # uv takes addresses and pre-releases from direct requirements only, not from a pack's.
        direct += [line.text for pack in packs for line in pack.lines if _is_direct(line)]
        bounds = [line.text for pack in packs for line in pack.bounds]
        files = {
            "asked.txt": direct,
            "bounds.txt": [*self.protected, *bounds],
            "excluded.txt": self.excluded,
            "answer.txt": [f"{one.name}=={one.version}" for one in self.prefer if one.version],
        }
        for name, lines in files.items():
            (place / name).write_text("".join(f"{line}\n" for line in lines), "utf-8")
        hidden = [word for pack in packs for word in ("--no-emit-package", _PREFIX + pack.slug)]
        return [
            *(uv_program(), "pip", "compile", str(place / "asked.txt"), "--quiet"),
            *("--output-file", str(place / "answer.txt"), "--python", str(self.python)),
            *("--constraints", str(place / "bounds.txt")),
            *("--excludes", str(place / "excluded.txt")),
            *("--generate-hashes", "--no-header", "--annotation-style", "line"),
            *hidden,
            *self.options,
        ]

    def _answer(self, place: Path, packs: Sequence[Asking]) -> tuple[LockedPackage, ...]:
        """The answer to a question; of direct lines uv does not say whose they are."""
        vcs = [(f"pack:{pack.slug}", line.vcs) for pack in packs for line in pack.lines if line.vcs]
        return tuple(
            attrs.evolve(
                one,
                hashes=tuple(digest for digest in one.hashes if digest not in self.stand_ins),
                wanted_by=one.wanted_by
                or tuple(dict.fromkeys(slug for slug, url in vcs if one.url and url in one.url)),
            )
            for one in read((place / "answer.txt").read_text("utf-8"))
        )

    def _unsolved(self, tail: Collection[str]) -> Unsolved:
        # The solver folds its words at the width of a terminal.
        text = " ".join(line.strip() for line in tail)
        missing = tuple(dict.fromkeys(_NOT_FOUND.findall(text)))
        kinds = (
            (Fault.UNREACHED, _UNREACHED.search(text)),
            (Fault.BUILD, _NOT_BUILT.search(text)),
            (Fault.UNKNOWN, missing),
            (Fault.NO_WHEEL, _NO_WHEEL.search(text)),
            (Fault.CONFLICT, "No solution found" in text),
        )
        fault = next((kind for kind, found in kinds if found), Fault.OTHER)
        packs = tuple(dict.fromkeys(_NAMED.findall(text)))
        told = tuple(re.sub(rf"{_PREFIX}([\w-]+)(==0)?", r"pack \1", line) for line in tail)
        return Unsolved(
            fault=fault,
            packs=packs,
            missing=() if self.whole else missing,
            told=told[-_TOLD:],
        )


def _is_direct(line: Admitted) -> bool:
    if line.vcs:
        return True
    wanted = Requirement(line.text)
    return wanted.url is not None or wanted.specifier.prereleases is True


def _wheel(place: Path, pack: Asking) -> str:
    """Write the empty wheel that stands for a pack; the line that asks for it."""
    name = _PREFIX + pack.slug
    requires = [line.text for line in pack.lines if not line.vcs]
    return f"{name} @ {empty_wheel(place, name, '0', requires).as_uri()}"
