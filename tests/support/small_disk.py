"""Real disks with faults, where one may be mounted: with room for little, or that hang."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

__all__ = ["fill", "hung_disk", "small_disk"]


@contextlib.contextmanager
def small_disk(folder: Path, mib: int) -> Iterator[Path]:
    """Mount one at *folder*, which is made; skips the test where that is not permitted."""
    folder.mkdir()
    _mount("-t", "tmpfs", "-o", f"size={mib}m", "none", str(folder))
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)  # noqa: S607 - the system's


@contextlib.contextmanager
def hung_disk(folder: Path) -> Iterator[tuple[Path, Callable[[], None]]]:
    """Mount one whose server does not answer, like that of a network that is lost; and what has it
    answer, with an error, whoever waits.
    """
    folder.mkdir()
    try:
        server = Path("/dev/fuse").open("r+b", buffering=0)  # noqa: SIM115 - closed below
    except OSError as error:
        pytest.skip(f"no file system of ours can be mounted here: {error}")
    with server:
        own = f"fd={server.fileno()},user_id={os.getuid()},group_id={os.getgid()},rootmode=40000"
        _mount("-i", "-t", "fuse", "-o", own, "hung", str(folder), keep=(server.fileno(),))
        try:
            yield folder, server.close
        finally:
            server.close()
            subprocess.run(["umount", "-l", str(folder)], check=True)  # noqa: S607 - the system's


def _mount(*words: str, keep: Sequence[int] = ()) -> None:
    """Mount, or skip the test where that is not permitted."""
    try:
        done = subprocess.run(
            ["mount", *words],  # noqa: S607 - the system's
            capture_output=True,
            text=True,
            check=False,
            pass_fds=keep,
        )
    except FileNotFoundError:
        pytest.skip("there is no program mount")
    if done.returncode:
        pytest.skip(f"mounting a disk is not permitted here: {done.stderr.strip()}")


def fill(disk: Path, *, leave: int) -> Path:
    """Take the room; a file that can be removed to give it back."""
    ballast = disk / "ballast"
    ballast.write_bytes(b"\0" * (shutil.disk_usage(disk).free - leave))
    return ballast
