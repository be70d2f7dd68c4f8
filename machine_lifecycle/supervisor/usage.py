"""What processes and their trees use, from one look at the system, taken only when asked for."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping

import attrs
import psutil

__all__ = ["Figures", "figures"]


@attrs.frozen(kw_only=True)
class Figures:
    """What a whole tree uses.

    Attributes:
        cpu_percent: Of one processor, since the last time this was asked; 0 the first time.
        rss_bytes: Resident memory; pages that processes share are counted in each.
        processes: How many there are.
    """

    cpu_percent: float
    rss_bytes: int
    processes: int


def figures(pids: Iterable[int]) -> Mapping[int, Figures]:
    """Figures of the trees under *pids*; those that have ended are left out. Blocks for some ms."""
    # psutil keeps its Process objects between calls, and with them the last processor times.
    everybody = {process.pid: process for process in psutil.process_iter(["ppid"])}
    children: dict[int, list[int]] = {}
    for pid, process in everybody.items():
        children.setdefault(process.info["ppid"], []).append(pid)
    result = {}
    for root in pids:
        if root not in everybody:
            continue
        tree, cpu, rss = [root], 0.0, 0
        for pid in tree:  # grows while it is walked
            tree += children.get(pid, [])
            with contextlib.suppress(psutil.Error), everybody[pid].oneshot():
                cpu += everybody[pid].cpu_percent(None)
                rss += everybody[pid].memory_info().rss
        result[root] = Figures(cpu_percent=cpu, rss_bytes=rss, processes=len(tree))
    return result
