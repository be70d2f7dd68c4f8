"""Keep process trees within their memory, where their specs say how much that is.

Nothing is looked at unless a process that has a limit is kept running; then one look every 5 s, in
a thread, for all of them. What processes share (libraries, a forked model) counts once: pages are
first added up as resident, which costs a read per process, and only a tree that seems too big is
asked for its proportional share, which costs the kernel a walk through its page tables.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping

import attrs

from machine_lifecycle.supervisor.tree import descendants

__all__ = ["Limited", "MemoryWatch", "tree_memory"]

_INTERVAL = 5.0
"""Seconds between two looks at what trees of processes use."""
_MIB = 1 << 20


@attrs.frozen
class Limited:
    """A running tree with a limit.

    Attributes:
        pid: Of its leader.
        most: Bytes.
        end: Ends it, for the reason given in words.
    """

    pid: int
    most: int
    end: Callable[[str], None]


def tree_memory(pid: int, most: int) -> int:
    """Bytes that a process and its descendants hold: resident, or, if that is more than *most*,
    their proportional share where the system tells it. 0 if it has ended.
    """
    import psutil  # noqa: PLC0415 - heavy, and only for processes with a limit

    tree = []
    for number in (pid, *(stat.pid for stat in descendants(pid))):
        try:
            tree.append(psutil.Process(number))
        except psutil.Error:
            continue
    held = 0
    for shares in (False, True):
        held = 0
        for process in tree:
            try:
                resident: int = process.memory_info().rss
                held += getattr(process.memory_full_info(), "pss", resident) if shares else resident
            except psutil.Error:  # it ended, or is another user's
                continue
        if held <= most:
            break
    return held


def _too_big(limits: Mapping[int, int]) -> dict[int, int]:
    found = {pid: tree_memory(pid, most) for pid, most in limits.items()}
    return {pid: held for pid, held in found.items() if held > limits[pid]}


class MemoryWatch:
    """Looks while there is anything to look at."""

    def __init__(
        self, limited: Callable[[], Iterable[Limited] | None], *, interval: float = _INTERVAL
    ) -> None:
        """Look at nothing yet.

        Args:
            limited: The trees with a limit that run now; ``None`` when none will any more.
            interval: Seconds between looks.
        """
        self._limited = limited
        self._interval = interval
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Look from now on, if there is anything with a limit. Safe to call at any time."""
        if (self._task is None or self._task.done()) and self._limited() is not None:
            self._task = asyncio.create_task(self._run(), name="memory of processes")

    async def _run(self) -> None:
        while (limited := self._limited()) is not None:
            by_pid = {one.pid: one for one in limited}
            limits = {pid: one.most for pid, one in by_pid.items()}
            found = await asyncio.to_thread(_too_big, limits) if limits else {}
            for pid, held in found.items():
                most = by_pid[pid].most
                by_pid[pid].end(f"memory: {held // _MIB} MiB, more than its {most // _MIB} MiB")
            await asyncio.sleep(self._interval)

    def close(self) -> None:
        """Look no more."""
        if self._task is not None:
            self._task.cancel()
            self._task = None
