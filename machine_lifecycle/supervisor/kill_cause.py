"""Who may have sent a SIGKILL: the kernel for want of memory, or somebody.

The kernel counts the processes that it killed for want of memory: for the whole system in
``/proc/vmstat``, for a control group in its ``memory.events`` (version 2) or ``memory.oom_control``
(version 1). It doesn't say which they were, so only a count that stands still tells for certain.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

__all__ = ["OomCount", "our_counts"]

_AT_ONCE = 2.0  # seconds: kills for memory come in groups, and we hear of each end by itself
_SAME_LOOK = 0.005  # seconds: one look for all ends of one turn of the event loop
_SYSTEM = Path("/proc/vmstat")


def our_counts() -> tuple[Path, ...]:
    """The files of the control groups that this process is in, those that can be seen."""
    found = []
    try:
        rows = Path("/proc/self/cgroup").read_text("utf-8").splitlines()
    except OSError:
        return ()
    root = Path("/sys/fs/cgroup")
    for row in rows:
        _, controllers, place = row.split(":", 2)
        if not controllers:
            places, name = [root, root / "unified"], "memory.events"
        elif "memory" in controllers.split(","):
            places, name = [root / "memory"], "memory.oom_control"
        else:
            continue
        # In a container the group's own folder may be the mount itself.
        files = (one / part / name for one in places for part in (place.lstrip("/"), ""))
        found += [file for file in files if file.is_file()][:1]
    return tuple(found)


def _count(file: Path) -> int | None:
    try:
        for line in file.read_text("ascii").splitlines():
            name, _, number = line.partition(" ")
            if name == "oom_kill":
                return int(number)
    except (OSError, ValueError):
        return None
    return None


class OomCount:
    """What the kernel has killed for want of memory since this was made."""

    def __init__(self, system: Path = _SYSTEM, groups: Sequence[Path] | None = None) -> None:
        """Begin to count.

        Args:
            system: As ``/proc/vmstat``.
            groups: Files of control groups; those of this process if not given.
        """
        files = (system, *(our_counts() if groups is None else groups))
        self._seen = {file: _count(file) for file in files}
        self._rose = dict.fromkeys(files, float("-inf"))
        self._system = system
        self._looked = float("-inf")

    def _look(self, now: float) -> None:
        self._looked = now
        for file, before in self._seen.items():
            count = _count(file)
            if count is not None and before is not None and count > before:
                self._rose[file] = now
            self._seen[file] = count

    def words(self) -> str:
        """What is known of a SIGKILL that was just noticed, to be put behind that word."""
        now = time.monotonic()
        if now - self._looked > _SAME_LOOK:
            self._look(now)
        recent = {file for file, at in self._rose.items() if now - at < _AT_ONCE}
        if recent - {self._system}:
            return ", out of memory: the kernel killed in our control group"
        if recent:
            return ", perhaps out of memory: the kernel killed for that on this system"
        if self._seen[self._system] is None:
            return ", perhaps out of memory"
        return ", by somebody: the kernel killed nothing for want of memory"
