"""Looks at the host itself."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

from machine_lifecycle.assembly.doctor.finding import Skipped
from machine_lifecycle.assembly.errors import ClockWrong
from machine_lifecycle.installers.preflight_errors import InodesShort
from machine_lifecycle.system.errors import BadFolder

__all__ = ["clock", "inodes", "nearest", "workspace"]

_LEAST_INODES = 100_000
"""An environment with torch is some 60,000 files."""
_BUILT = 1_735_689_600
"""1 January 2025: a clock before that was never set."""


def clock() -> str:
    """Whether it was ever set."""
    now = time.time()
    if now < _BUILT:
        raise ClockWrong(now=now, reference="the year this was written in")
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now))


def workspace(wanted: Path) -> str:
    """Whether the folder is there, or can be made."""
    folder = nearest(wanted)
    try:
        # Permissions say little to root or of a read-only disk. This file has no name.
        tempfile.TemporaryFile(dir=folder).close()
        in_the_way = [one for one in (wanted, *wanted.parents) if one.is_file()]
    except OSError as error:
        problem = f"can't be written to: {error.strerror}"
        raise BadFolder(folder=folder, problem=problem, variable="WORKSPACE_PATH") from error
    if in_the_way:
        problem = "is a file, where a folder is needed"
        raise BadFolder(folder=in_the_way[0], problem=problem, variable="WORKSPACE_PATH")
    return f"{wanted} {'is there' if wanted.is_dir() else 'will be made'}"


def inodes(wanted: Path) -> str | Skipped:
    """Whether as many files can be made as an installation takes."""
    folder = nearest(wanted)
    stats = os.statvfs(folder)
    if not stats.f_files:
        return Skipped(why="this file system counts none")
    if stats.f_favail < _LEAST_INODES:
        raise InodesShort(folder=folder, free=stats.f_favail, needed=_LEAST_INODES)
    return f"{stats.f_favail:,} free"


def nearest(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    while not folder.is_dir():
        folder = folder.parent
    return folder
