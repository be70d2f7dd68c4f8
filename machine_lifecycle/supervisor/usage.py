"""What processes and their trees use, from one look at the system, taken only when asked for."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping

import psutil

from machine_lifecycle.model.figures import Figures
from machine_lifecycle.system.nvml import GpuUse

__all__ = ["figures"]


def figures(pids: Iterable[int], gpus: Mapping[int, GpuUse] | None = None) -> Mapping[int, Figures]:
    """Figures of the trees under *pids*; those that have ended are left out. Blocks for some ms.

    A tree ends where another one of *pids* begins: an orchestrator doesn't count its services.
    Processor time counts from the last time that this was asked, so it is 0 the first time.

    Args:
        pids: Roots of the trees.
        gpus: What processes do on GPUs, by process number, as the driver tells.
    """
    on_gpus = gpus or {}
    # psutil keeps its Process objects between calls, and with them the last processor times.
    everybody = {process.pid: process for process in psutil.process_iter(["ppid"])}
    children: dict[int, list[int]] = {}
    for pid, process in everybody.items():
        children.setdefault(process.info["ppid"], []).append(pid)
    result = {}
    roots = set(pids)
    for root in roots:
        if root not in everybody:
            continue
        tree, cpu, rss, threads, descriptors = [root], 0.0, 0, 0, 0
        for pid in tree:  # grows while it is walked
            tree += [child for child in children.get(pid, ()) if child not in roots]
            with contextlib.suppress(psutil.Error), everybody[pid].oneshot():
                cpu += everybody[pid].cpu_percent(None)
                rss += everybody[pid].memory_info().rss
                threads += everybody[pid].num_threads()
                descriptors += everybody[pid].num_fds()
        shares = [share for pid in tree if (share := _share(everybody[pid])) is not None]
        held = [on_gpus[pid] for pid in tree if pid in on_gpus]
        busy = [use.percent for use in held if use.percent is not None]
        result[root] = Figures(
            cpu_percent=cpu,
            memory_bytes=rss,
            share_bytes=sum(shares) if len(shares) == len(tree) else None,
            processes=len(tree),
            threads=threads,
            descriptors=descriptors,
            gpu_memory_bytes=sum(use.memory for use in held) if held else None,
            gpu_percent=sum(busy) if busy else None,
        )
    return result


def _share(process: psutil.Process) -> int | None:
    """Its memory, with shared pages divided; 0 once it has ended, ``None`` if nobody tells."""
    try:
        share: int | None = getattr(process.memory_full_info(), "pss", None)
    except psutil.NoSuchProcess:
        return 0
    except psutil.AccessDenied:
        return None
    return share
