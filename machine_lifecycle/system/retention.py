"""Which files that services made go, since they are old or too many; and their removal.

A service writes into folders of its own (output, temp) and never tidies up. What jobs made is in
the queue's results; these files are the service's own copies.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path

import attrs

__all__ = ["Kept", "Rules", "Swept", "expired", "sweep"]


@attrs.frozen(kw_only=True)
class Rules:
    """How much is kept.

    Attributes:
        max_age: Seconds; 0: however old.
        max_bytes: In all folders together; 0: however many.
        young: Seconds in which a file is never removed: a running job may have made it.
    """

    max_age: float = 0.0
    max_bytes: int = 0
    young: float = 600.0


@attrs.frozen(kw_only=True)
class Kept:
    """One file: its path, its size in bytes, and when it was last written (wall-clock seconds)."""

    path: Path
    size: int
    modified: float


@attrs.frozen(kw_only=True)
class Swept:
    """What a sweep did.

    Attributes:
        removed: Files that are gone.
        left: Bytes that are still there.
        problems: What could not be removed or read, in words.
    """

    removed: int = 0
    left: int = 0
    problems: tuple[str, ...] = ()


def expired(files: Iterable[Kept], rules: Rules, now: float) -> tuple[Kept, ...]:
    """The files that go, oldest first: those past the age, then as many as are too much."""
    ordered = sorted(files, key=lambda file: (file.modified, str(file.path)))
    left = sum(file.size for file in ordered)
    gone: list[Kept] = []
    for file in ordered:
        age = now - file.modified
        if age < rules.young:  # all that follow are younger
            break
        too_old = rules.max_age and age > rules.max_age
        too_much = rules.max_bytes and left > rules.max_bytes
        if not (too_old or too_much):
            break
        left -= file.size
        gone.append(file)
    return tuple(gone)


def sweep(folders: Sequence[Path], rules: Rules, now: float) -> Swept:
    """Remove what has expired in these folders, and the folders that it leaves empty.

    Links are neither followed nor removed, and the folders themselves stay. Takes as long as a walk
    over them: not for an event loop.
    """
    problems: list[str] = []

    def complain(error: OSError) -> None:
        problems.append(f"{error.filename}: {error.strerror}")

    files: list[Kept] = []
    for top in folders:
        if top.is_symlink() or top.parent.is_symlink():
            continue  # what it leads to is somebody else's
        for folder, _, names in os.walk(top, onerror=complain if top.exists() else None):
            for name in names:
                path = Path(folder, name)
                try:
                    found = path.lstat()
                except FileNotFoundError:
                    continue  # the service took it away
                if stat.S_ISREG(found.st_mode):
                    files.append(Kept(path=path, size=found.st_size, modified=found.st_mtime))
    removed = gone = 0
    for file in expired(files, rules, now):
        try:
            file.path.unlink(missing_ok=True)
        except OSError as error:
            complain(error)
            continue
        removed, gone = removed + 1, gone + file.size
        _prune(file.path.parent, folders)
    left = sum(file.size for file in files) - gone
    return Swept(removed=removed, left=left, problems=tuple(problems))


def _prune(folder: Path, keep: Sequence[Path]) -> None:
    """Remove a folder that is empty, and those above it that are so then."""
    while folder not in keep:
        try:
            folder.rmdir()
        except OSError:  # it is not empty: the common case
            return
        folder = folder.parent
