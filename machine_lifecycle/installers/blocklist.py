"""Packs and packages that are never installed: lists that ship, and lists of the user's.

A line is a pack, by name or by address, or a package with versions, as in a constraints file; what
stands behind ``#`` says why.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from urllib.parse import urlsplit

import attrs
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from machine_lifecycle.config.nodes import NodeEntry
from machine_lifecycle.installers.base import fingerprint
from machine_lifecycle.installers.git_errors import PackBlocked
from machine_lifecycle.model.installing import Step, StepContext
from machine_lifecycle.model.settings import Settings
from machine_lifecycle.system.files import read_named

__all__ = ["Blocklist", "blocked_by", "blocked_packages"]

_PACKS = "blocked-packs.txt"
_PACKAGES = "blocked-packages.txt"


def _shipped(name: str) -> Path:
    return Path(str(resources.files("machine_lifecycle.installers").joinpath(name)))


def blocked_packages(settings: Settings | None = None) -> tuple[Path, ...]:
    """Files of constraints that keep blocked versions out, for pip and uv."""
    named = settings.blocked_packages if settings else None
    return (_shipped(_PACKAGES), *((named,) if named else ()))


def blocked_by(files: Iterable[Path], versions: Mapping[str, str]) -> Iterator[str]:
    """Which releases are kept out by files of constraints, for people.

    Args:
        files: Those of ``blocked_packages``.
        versions: By canonical name; an empty one comes from an address, and is none.

    Raises:
        FileNotRead: One can't be read.
    """
    for file in files:
        for line in read_named(file, "MACHINE_BLOCKED_PACKAGES").splitlines():
            with contextlib.suppress(InvalidRequirement):
                one = Requirement(line.partition("#")[0])
                if one.marker and not one.marker.evaluate():
                    continue
                version = versions.get(canonicalize_name(one.name))
                if version and not one.specifier.contains(version, prereleases=True):
                    yield f"{one.name} {version} is blocked"


@attrs.frozen
class Blocklist:
    """Packs that are not installed, and why.

    Attributes:
        reasons: By name, or by host and path of an address; in small letters.
    """

    reasons: Mapping[str, str]

    @classmethod
    def of(cls, settings: Settings) -> Blocklist:
        """What ships, and what the settings name.

        Raises:
            FileNotRead: A list can't be read.
        """
        named = settings.blocked_packs
        reasons: dict[str, str] = {}
        for path in (_shipped(_PACKS), *((named,) if named else ())):
            for line in read_named(path, "MACHINE_BLOCKED_PACKS").splitlines():
                what, _, why = line.partition("#")
                if what.strip():
                    reasons[_key(what.strip())] = why.strip()
        return cls(reasons)

    def reason(self, name: str, url: str) -> str | None:
        """Why a pack is blocked; ``None``: it is not."""
        return next(
            (self.reasons[key] for key in (_key(name), _key(url)) if key in self.reasons), None
        )

    def over(self, steps: Sequence[Step], nodes: Iterable[NodeEntry]) -> tuple[Step, ...]:
        """The steps, with one that says why instead of those of each blocked pack."""
        reasons = {node.name: self.reason(node.name, node.url) for node in nodes}
        told: set[str] = set()
        found = []
        for step in steps:
            why = reasons.get(step.subject)
            if why is None:
                found.append(step)
            elif step.subject not in told:
                told.add(step.subject)
                found.append(_blocked(step, why))
        return tuple(found)


def _key(text: str) -> str:
    """A name, or host and path of an address, so that two ways to write one are the same."""
    text = text.removeprefix("git clone ").strip().rstrip("/").removesuffix(".git").lower()
    parts = urlsplit(text)
    if parts.scheme and parts.netloc:
        return f"{parts.netloc.rpartition('@')[2]}{parts.path}"
    return text.partition("@")[2].replace(":", "/", 1) if "@" in text else text


def _blocked(step: Step, why: str) -> Step:
    async def run(_: StepContext) -> None:
        raise PackBlocked(pack=step.subject, reason=why)

    return attrs.evolve(
        step,
        id=f"node {step.subject} blocked",
        summary=f"node pack {step.subject}",
        fingerprint=fingerprint("blocked", why),
        needs=(),
        retries=0,
        programs=(),
        run=run,
    )
