"""The whole of a process: its descendants, its session, and those that slipped away.

A spawned process leads a session of its own and carries a token in its environment, which what it
starts inherits. Where we are the reaper of orphans (``become_subreaper``), whoever slips away is
handed to us by the kernel, so looking at our own children is enough and costs little. Elsewhere
all processes are looked at, and known by their token.
"""

from __future__ import annotations

import ctypes
import os
import sys
from typing import Protocol

from machine_lifecycle.supervisor.identity import Identity, Stat, boot_mark, read_proc, read_stat

__all__ = [
    "FAST",
    "TOKEN_VARIABLE",
    "Strays",
    "all_stats",
    "bearers",
    "become_subreaper",
    "belongs",
    "children",
    "descendants",
    "members",
    "token_of",
]

TOKEN_VARIABLE = "MACHINE_PROCESS_TOKEN"  # noqa: S105 - a name, and no secret either
_PREFIX = f"{TOKEN_VARIABLE}=".encode()
_LINKS_OF_ONE = 3  # of /proc/PID/task: two, and one for each thread; most have a single one
_PR_SET_CHILD_SUBREAPER = 36  # include/uapi/linux/prctl.h
_LINUX = sys.platform == "linux"


def become_subreaper() -> bool:
    """Have orphaned descendants handed to this process. It can't be undone by its children's
    end, and holds for the whole process: never call it as a guest. Whether it worked.
    """
    if not _LINUX:
        return False
    return bool(ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)


def children(pid: int) -> list[int]:
    """Children of all threads of *pid*, from ``/proc``; empty if it has ended."""
    found: list[int] = []
    folder = f"/proc/{pid}/task"
    try:
        alone = os.stat(folder).st_nlink == _LINKS_OF_ONE  # noqa: PTH116 - called for each process
        threads = (str(pid),) if alone else os.listdir(folder)  # noqa: PTH208 - likewise
        for thread in threads:
            found += map(int, read_proc(f"{folder}/{thread}/children").split())
    except (FileNotFoundError, ProcessLookupError):
        return found
    return found


def _has_children_files() -> bool:
    return os.path.exists(f"/proc/self/task/{os.getpid()}/children")  # noqa: PTH110


FAST = _LINUX and _has_children_files()


def all_stats() -> dict[int, Stat]:
    """Every process of the system, by number."""
    if _LINUX:
        pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208
    else:
        import psutil  # noqa: PLC0415 - heavy, and not needed on Linux

        pids = psutil.pids()
    stats = (read_stat(pid) for pid in pids)
    return {stat.pid: stat for stat in stats if stat}


def descendants(pid: int) -> list[Stat]:
    """Every living descendant of *pid*, nearest first."""
    found: list[Stat] = []
    seen = {pid}
    if FAST:
        queue = children(pid)
        while queue:
            child = queue.pop(0)
            stat = read_stat(child) if child not in seen else None
            if stat:
                seen.add(child)
                if not stat.dead:
                    found.append(stat)
                queue += children(child)
        return found
    by_parent: dict[int, list[Stat]] = {}
    for stat in all_stats().values():
        by_parent.setdefault(stat.ppid, []).append(stat)
    parents = [pid]
    while parents:
        for stat in by_parent.get(parents.pop(0), []):
            if stat.pid not in seen:
                seen.add(stat.pid)
                parents.append(stat.pid)
                if not stat.dead:
                    found.append(stat)
    return found


def token_of(pid: int) -> str:
    """The token in the environment that *pid* was started with; empty if there is none."""
    try:
        if _LINUX:
            for line in read_proc(f"/proc/{pid}/environ").split(b"\0"):
                if line.startswith(_PREFIX):
                    return line[len(_PREFIX) :].decode("utf-8", "replace")
            return ""
        import psutil  # noqa: PLC0415 - heavy, and not needed on Linux

        try:
            return str(psutil.Process(pid).environ().get(TOKEN_VARIABLE, ""))
        except psutil.Error:
            return ""
    except (OSError, ValueError):
        return ""  # ended, or another user's: in neither case ours


def belongs(pid: int, leader: int, token: str) -> bool:
    """Whether a process is of a tree, by its session or by what it carries."""
    if pid == leader:
        return True
    stat = read_stat(pid)
    return stat is not None and (stat.session == leader or token_of(pid) == token)


def bearers(tokens: frozenset[str]) -> dict[str, list[Stat]]:
    """Living processes by token, of all that the system has. Costs a look at each process."""
    found: dict[str, list[Stat]] = {token: [] for token in tokens}
    for stat in all_stats().values():
        if not stat.dead and stat.pid != os.getpid() and (token := token_of(stat.pid)) in found:
            found[token].append(stat)
    return found


class Strays(Protocol):
    """Finds what slipped away from a tree."""

    def of(self, leader: int, token: str, after: float) -> list[Stat]:
        """Processes of one tree that lost their parent, dead ones perhaps too.

        Args:
            leader: Number of the process that leads the tree.
            token: What all of it bears.
            after: ``time.monotonic()`` before which a look is too old for the caller.
        """


def members(
    leader: int, token: str, *, living: bool, strays: Strays, after: float
) -> set[Identity]:
    """Every living process of a tree but its leader.

    Args:
        leader: Number of the spawned process.
        token: What it was given in its environment.
        living: Whether the leader still runs. The children of a dead one are orphans, and its
            number is somebody else's as soon as it is reaped.
        strays: Finds those that lost their parent.
        after: ``time.monotonic()`` after which those must have been looked for.
    """
    found = {stat.pid: stat for stat in descendants(leader)} if living else {}
    for root in strays.of(leader, token, after):
        if not root.dead:
            found[root.pid] = root
        found.update((stat.pid, stat) for stat in descendants(root.pid))
    return {Identity(stat.pid, stat.created, boot_mark()) for stat in found.values()}
