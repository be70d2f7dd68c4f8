"""Where a disk is full, as far as a program's words and the usual places tell."""

from __future__ import annotations

import errno
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from machine_lifecycle.installers.errors import DiskFull

__all__ = ["disk_full", "fullest", "places", "ran_out"]

_WORDS = ("No space left on device", "Disk quota exceeded")
_UNCLEAR = "unable to write file"
"""Git's words while it checks out, whatever the cause."""
_LITTLE = 64 << 20
"""Bytes. With less than that free, unclear words are about room."""
_PATH = re.compile(r"(/[^\s'\"`:,]+)")
_FULL = (errno.ENOSPC, errno.EDQUOT)


def ran_out(error: BaseException) -> bool:
    """Whether an error, or any in its group, says that there is no room."""
    if isinstance(error, BaseExceptionGroup):
        return any(ran_out(one) for one in error.exceptions)
    return isinstance(error, OSError) and error.errno in _FULL


def places(env: Mapping[str, str]) -> tuple[Path, ...]:
    """Where programs that install write beside their target: their cache, temporary files."""
    home = Path(env.get("HOME") or "/")
    cache = Path(env.get("XDG_CACHE_HOME") or home / ".cache")
    return (
        Path(env.get("UV_CACHE_DIR") or cache / "uv"),
        Path(env.get("PIP_CACHE_DIR") or cache / "pip"),
        Path(env.get("TMPDIR") or "/tmp"),  # noqa: S108 - looked at only
    )


def disk_full(lines: Sequence[str], folders: Iterable[Path]) -> DiskFull | None:
    """The error for a program that said it; None if it did not.

    Args:
        lines: What it said.
        folders: Where it may have written.
    """
    said = [line for line in lines if any(words in line for words in _WORDS)]
    unclear = any(_UNCLEAR in line for line in lines)
    if not said and not unclear:
        return None
    named = [Path(found) for line in said for found in _PATH.findall(line)]
    folder, free = fullest((*named, *folders))
    if not said and free > _LITTLE:
        return None
    return DiskFull(folder=folder, free=free, context=tuple(lines[-15:]))


def fullest(folders: Iterable[Path]) -> tuple[Path, int]:
    """The disk with the least room, by its topmost folder, and the bytes that are free there.

    Of a folder that is not there, the nearest above counts. The system's own disk is named by the
    folder itself: all of it would be too much to look through.
    """
    there = [next(one for one in (path, *path.parents) if one.is_dir()) for path in folders]
    free = {path: shutil.disk_usage(path).free for path in there}
    folder = min(there, key=lambda path: free[path])
    mount = next(one for one in (folder, *folder.parents) if one.is_mount())
    return (folder if mount == mount.parent else mount), free[folder]
