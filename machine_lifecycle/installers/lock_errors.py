"""What can go wrong with the lock of an installation."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import ClassVar

import attrs

from machine_lifecycle.errors import ConfigurationError, LifecycleError, Remedy

__all__ = ["LockImpossible", "LockStale", "LockUnreadable", "PackImpossible"]

_ANEW = "machine-lifecycle lock"


@attrs.define(kw_only=True, slots=False, eq=False)
class LockUnreadable(ConfigurationError):
    """A lock can't be used as it is.

    Attributes:
        path: The file.
        problem: What is wrong with it.
    """

    code: ClassVar[str] = "lock-unreadable"

    path: Path
    problem: str

    @property
    def summary(self) -> str:
        """Which file, and why."""
        return f"{self.path}: {self.problem}"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """Take an earlier one, or make it anew."""
        path = shlex.quote(str(self.path))
        return (
            Remedy("Take the last good one from where you keep it", f"git checkout -- {path}"),
            Remedy("Or make it anew", f"rm {path} && {_ANEW}"),
        )


@attrs.define(kw_only=True, slots=False, eq=False)
class LockStale(ConfigurationError):
    """The lock is not that of the list and the settings.

    Attributes:
        path: The file.
        differences: What differs, a line each.
    """

    code: ClassVar[str] = "lock-stale"

    path: Path
    differences: tuple[str, ...]

    @property
    def summary(self) -> str:
        """Which file, and how much differs."""
        count = len(self.differences)
        things = "one thing" if count == 1 else f"{count} things"
        return f"{self.path} is not the lock of this list and these settings: {things} differ"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """Bring it up to date."""
        return (Remedy("Bring it up to date", _ANEW),)


@attrs.define(kw_only=True, slots=False, eq=False)
class LockImpossible(LifecycleError):
    """No versions satisfy what ComfyUI itself requires, or nobody could be asked.

    Attributes:
        fault: The kind.
        log: File with all of the solver's words.
    """

    code: ClassVar[str] = "lock-impossible"

    fault: str
    log: Path

    # A fact of the cause, so it shadows the class attribute.
    @property
    def recoverable(self) -> bool:  # type: ignore[override]  # see above
        """An index may answer later; what can't be solved stays so."""
        return self.fault == "index-not-reached"

    @property
    def summary(self) -> str:
        """What can't be had."""
        return f"ComfyUI's own packages can't be had: {self.fault}"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """Read why, or name another index."""
        return (
            Remedy("Read all of the solver's words", f"less {shlex.quote(str(self.log))}"),
            Remedy("Name an index or a folder of wheels in UV_DEFAULT_INDEX or UV_FIND_LINKS"),
        )


@attrs.define(kw_only=True, slots=False, eq=False)
class PackImpossible(LifecycleError):
    """A pack that the list calls required can't be part of the lock.

    Attributes:
        pack: Its name.
        fault: Why.
        against: Packs that it can't be had with.
    """

    code: ClassVar[str] = "lock-pack-impossible"
    recoverable: ClassVar[bool] = False

    pack: str
    fault: str
    against: tuple[str, ...] = ()

    @property
    def summary(self) -> str:
        """Which, and why."""
        beside = f" beside {', '.join(self.against)}" if self.against else ""
        return f"the required pack {self.pack} can't be had{beside}: {self.fault}"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """Change what the list asks for."""
        others = " or ".join((self.pack, *self.against))
        return (Remedy(f"Name another commit for {others} in the list, or take one of them out"),)
