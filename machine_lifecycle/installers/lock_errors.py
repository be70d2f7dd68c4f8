"""What can go wrong with the lock of an installation."""

from __future__ import annotations

import difflib
import shlex
from pathlib import Path
from typing import ClassVar

import attrs

from machine_lifecycle.errors import ConfigurationError, LifecycleError, Remedy

__all__ = [
    "InstallationDiffers",
    "LockImpossible",
    "LockMissing",
    "LockStale",
    "LockUnreadable",
    "NothingInstalled",
    "PackImpossible",
    "PackLeftOut",
    "PackUnknown",
    "SnapshotInTheWay",
]

_ANEW = "machine-lifecycle lock"
_NOT_HAD = "repository-not-had"


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
class LockMissing(ConfigurationError):
    """A lock is required, and there is none.

    Attributes:
        path: Where the machine's own would be.
    """

    code: ClassVar[str] = "lock-missing"

    path: Path

    @property
    def summary(self) -> str:
        """Where it was looked for."""
        return f"COMFYUI_LOCK=require, and there is no lock beside the list nor at {self.path}"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """Make one; or let the boot make it."""
        return (
            Remedy("Make it, and keep it with the list", _ANEW),
            Remedy("Or let the first boot make one", "export COMFYUI_LOCK=make"),
        )


@attrs.define(kw_only=True, slots=False, eq=False)
class LockStale(ConfigurationError):
    """The lock is not that of the list and the settings, or there is none.

    Attributes:
        path: The file.
        differences: What differs, a line each; none: there is no lock.
    """

    code: ClassVar[str] = "lock-stale"

    path: Path
    differences: tuple[str, ...]

    @property
    def summary(self) -> str:
        """Which file, and how much differs."""
        count = len(self.differences)
        if not count:
            return f"there is no lock at {self.path}"
        things = "one thing differs" if count == 1 else f"{count} things differ"
        return f"{self.path} is not the lock of this list and these settings: {things}"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """Bring it up to date, or make it."""
        return (Remedy("Bring it up to date" if self.differences else "Make it", _ANEW),)


@attrs.define(kw_only=True, slots=False, eq=False)
class LockImpossible(LifecycleError):
    """No versions satisfy what ComfyUI itself requires, or nobody could be asked.

    Attributes:
        fault: The kind.
    """

    code: ClassVar[str] = "lock-impossible"

    fault: str

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
        """Name another commit, another build of torch, or another index; or do without a lock."""
        index = Remedy(
            "Name an index that has them, or a folder of wheels in UV_FIND_LINKS",
            "export UV_DEFAULT_INDEX=https://HOST/simple",
        )
        if self.fault != "conflict":
            there = Remedy(
                "Or name a Python that has all of them already: no index is needed then",
                "export COMFYUI_PYTHON=/opt/venv/bin/python",
            )
            return (index, there)
        return (
            Remedy(
                "Take a commit of ComfyUI whose requirements agree", "export COMFYUI_COMMIT=COMMIT"
            ),
            Remedy("Or leave torch to your own index", "export TORCH_BACKEND=none"),
            index,
        )


@attrs.define(kw_only=True, slots=False, eq=False)
class PackImpossible(LifecycleError):
    """A pack that the list calls required can't be part of the lock.

    Attributes:
        pack: Its name.
        fault: Why.
        against: Packs that it can't be had with.
        url: Where it comes from, without credentials; empty where that is not known.
    """

    code: ClassVar[str] = "lock-pack-impossible"

    pack: str
    fault: str
    against: tuple[str, ...] = ()
    url: str = ""

    # A fact of the cause, so it shadows the class attribute.
    @property
    def recoverable(self) -> bool:  # type: ignore[override]  # see above
        """Its host may answer later; what can't be solved stays so."""
        return self.fault == _NOT_HAD

    @property
    def summary(self) -> str:
        """Which, and why."""
        beside = f" beside {', '.join(self.against)}" if self.against else ""
        return f"the required pack {self.pack} can't be had{beside}: {self.fault}"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """Look whether its host answers; change what the list asks for."""
        others = " or ".join((self.pack, *self.against))
        look = f"git ls-remote {shlex.quote(self.url)}"
        away = self.fault == _NOT_HAD and self.url
        return (
            *((Remedy(f"Check that {self.url} can be reached", look),) if away else ()),
            Remedy(
                f"Name another commit for {others} in the list, or take one of them out; ask again",
                "machine-lifecycle lock --dry-run",
            ),
        )


@attrs.define(kw_only=True, slots=False, eq=False)
class PackLeftOut(PackImpossible):
    """The lock leaves a pack of the list out, so it was not installed."""

    code: ClassVar[str] = "lock-pack-left-out"

    @property
    def summary(self) -> str:
        """Why. Packs that are out for one reason say the same."""
        beside = f" beside {', '.join(self.against)}" if self.against else ""
        why = self.context[0] if self.fault == _NOT_HAD and self.context else self.fault
        return f"the lock leaves it out{beside}: {why}"


@attrs.define(kw_only=True, slots=False, eq=False)
class PackUnknown(ConfigurationError):
    """A pack was named that the list does not have.

    Attributes:
        packs: Those that were named.
        known: Those of the list.
    """

    code: ClassVar[str] = "lock-pack-unknown"

    packs: tuple[str, ...]
    known: tuple[str, ...]

    @property
    def summary(self) -> str:
        """Which."""
        return f"the list has no pack {', '.join(self.packs)}"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """Those that look alike, else all."""
        near = [name for pack in self.packs for name in difflib.get_close_matches(pack, self.known)]
        return (
            Remedy(f"Name one of these: {', '.join(near or self.known) or 'the list is empty'}"),
        )


@attrs.define(kw_only=True, slots=False, eq=False)
class NothingInstalled(ConfigurationError):
    """There is nothing to take a snapshot of.

    Attributes:
        home: Where ComfyUI would be.
        missing: What is not there.
    """

    code: ClassVar[str] = "snapshot-of-nothing"

    home: Path
    missing: tuple[str, ...]

    @property
    def summary(self) -> str:
        """What is not there."""
        return f"no ComfyUI is installed in {self.home}: there is no {', no '.join(self.missing)}"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """Say where it is."""
        return (
            Remedy("Name the folder that holds ComfyUI", "export WORKSPACE_PATH=/path/to/folder"),
            Remedy("And its Python, if it is not ComfyUI/venv", "export COMFYUI_PYTHON=/path"),
        )


@attrs.define(kw_only=True, slots=False, eq=False)
class SnapshotInTheWay(ConfigurationError):
    """A snapshot would overwrite a file.

    Attributes:
        path: The file.
    """

    code: ClassVar[str] = "snapshot-in-the-way"

    path: Path

    @property
    def summary(self) -> str:
        """Which."""
        return f"{self.path} is there already, and is left as it is"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """Another name, or over it."""
        return (Remedy("Name another file, or say that it may be overwritten with --force"),)


@attrs.define(kw_only=True, slots=False, eq=False)
class InstallationDiffers(LifecycleError):
    """What is installed is not what the lock says.

    Attributes:
        path: The lock.
        home: Folder of the service.
        differences: What differs, a line each.
    """

    code: ClassVar[str] = "installation-differs"

    path: Path
    home: Path
    differences: tuple[str, ...]

    @property
    def summary(self) -> str:
        """Which lock, and how much differs."""
        count = len(self.differences)
        if not count:
            return f"there is no lock at {self.path}"
        things = "one thing is" if count == 1 else f"{count} things are"
        return f"{things} other than {self.path} says"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """Have it installed anew, or lock what is wanted."""
        stamps = shlex.quote(str(self.home / ".machine-lifecycle" / "stamps"))
        return (
            Remedy("Install what the lock says", f"rm -rf {stamps} && machine-lifecycle install"),
            Remedy("See what was changed in a repository by hand", f"git -C {self.home} status"),
            Remedy(
                "Remove each model that differs, and have it again", "machine-lifecycle install"
            ),
        )
