"""Where a lock is kept: beside the list of packs it is a person's, with the services the machine's.

A person's lock is followed and never written by a boot. The machine's own is made by a boot that
finds none, and brought up to date by one that finds another list.
"""

from __future__ import annotations

from pathlib import Path

import attrs

from machine_lifecycle.installers.lock import Lock, parse_lock
from machine_lifecycle.installers.lock_errors import LockUnreadable
from machine_lifecycle.model.installing import InstallContext
from machine_lifecycle.system.files import asked_for, write_atomically

__all__ = ["Kept", "kept_lock", "lock_path", "own_lock_path", "read_lock", "save_lock"]


@attrs.frozen
class Kept:
    """A lock that is there.

    Attributes:
        path: Its file.
        lock: What it says.
        ours: Whether it is the machine's own.
    """

    path: Path
    lock: Lock
    ours: bool

    @property
    def compared(self) -> Lock:
        """What of it must be as the list says: a person's may leave out what is not blocked."""
        return self.lock if self.ours else attrs.evolve(self.lock, quarantined=())


def lock_path(context: InstallContext) -> Path:
    """Where a person keeps it: beside the list; the machine's own place if there is none."""
    nodes = context.settings.comfyui_nodes
    return own_lock_path(context) if nodes is None else nodes.with_name(f"{nodes.stem}.lock.json")


def own_lock_path(context: InstallContext) -> Path:
    """Where the machine keeps its own."""
    return context.paths.services / f"{context.service}.lock.json"


def kept_lock(context: InstallContext) -> Kept | None:
    """The lock that counts: a person's before the machine's own; ``None`` if there is none.

    Raises:
        LockUnreadable: It can't be read, or is none.
    """
    own = own_lock_path(context)
    for path in (lock_path(context), own):
        if lock := read_lock(path):
            return Kept(path, lock, ours=path == own)
    return None


def read_lock(path: Path) -> Lock | None:
    """The lock that is kept there; ``None`` if there is none.

    Raises:
        LockUnreadable: It can't be read, or is none.
    """
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise LockUnreadable(path=path, problem=str(error)) from error
    return parse_lock(text, path)


def save_lock(lock: Lock, path: Path) -> None:
    """Keep it: whoever reads meanwhile sees the old one or the new one.

    Raises:
        FileNotWritten: It can't be written there.
    """
    with asked_for(path):
        write_atomically(path, lock.text())
