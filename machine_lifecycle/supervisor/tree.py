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
from collections.abc import Callable, Iterator

from machine_lifecycle.supervisor.identity import Identity, Stat, boot_mark, read_stat

__all__ = [
    "TOKEN_VARIABLE",
    "bearers",
    "become_subreaper",
    "descendants",
    "members",
    "reap_orphans",
    "strays_of_ours",
]

TOKEN_VARIABLE = "MACHINE_PROCESS_TOKEN"  # noqa: S105 - a name, and no secret either
_PR_SET_CHILD_SUBREAPER = 36  # include/uapi/linux/prctl.h
_LINUX = sys.platform == "linux"


def become_subreaper() -> bool:
    """Have orphaned descendants handed to this process. It can't be undone by its children's
    end, and holds for the whole process: never call it as a guest. Whether it worked.
    """
    if not _LINUX:
        return False
    return bool(ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)


def _children(pid: int) -> list[int]:
    """Children of all threads of *pid*, from ``/proc``; empty if it has ended."""
    found: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208 - called for each process
            with open(f"/proc/{pid}/task/{thread}/children", "rb") as file:  # noqa: PTH123
                found += [int(child) for child in file.read().split()]
    except (FileNotFoundError, ProcessLookupError):
        return found
    return found


def _has_children_files() -> bool:
    return os.path.exists(f"/proc/self/task/{os.getpid()}/children")  # noqa: PTH110


_FAST = _LINUX and _has_children_files()


def _all_stats() -> dict[int, Stat]:
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
    if _FAST:
        queue = _children(pid)
        while queue:
            child = queue.pop(0)
            stat = read_stat(child) if child not in seen else None
            if stat:
                seen.add(child)
                if not stat.dead:
                    found.append(stat)
                queue += _children(child)
        return found
    by_parent: dict[int, list[Stat]] = {}
    for stat in _all_stats().values():
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


def _bears(pid: int, token: str) -> bool:
    """Whether the environment that *pid* was started with holds the token."""
    wanted = f"{TOKEN_VARIABLE}={token}"
    try:
        if _LINUX:
            with open(f"/proc/{pid}/environ", "rb") as file:  # noqa: PTH123
                return wanted.encode() in file.read().split(b"\0")
        import psutil  # noqa: PLC0415 - heavy, and not needed on Linux

        try:
            return bool(psutil.Process(pid).environ().get(TOKEN_VARIABLE) == token)
        except psutil.Error:
            return False
    except (OSError, ValueError):
        return False  # ended, or another user's: in neither case ours


def bearers(tokens: frozenset[str]) -> dict[str, list[Stat]]:
    """Living processes by token, of all that the system has. Costs a look at each process."""
    found: dict[str, list[Stat]] = {token: [] for token in tokens}
    for stat in _all_stats().values():
        if stat.dead or stat.pid == os.getpid():
            continue
        for token in tokens:
            if _bears(stat.pid, token):
                found[token].append(stat)
    return found


def strays_of_ours(leader: int, token: str, known: Callable[[int], bool]) -> Iterator[Stat]:
    """Orphans of this tree that the kernel handed to us, dead ones too."""
    for pid in _children(os.getpid()):
        if pid == leader or known(pid):
            continue
        stat = read_stat(pid)
        if stat and (stat.session == leader or _bears(pid, token)):
            yield stat


def members(
    leader: int, token: str, *, subreaper: bool, known: Callable[[int], bool]
) -> list[Identity]:
    """Every living process of a tree but its leader.

    Args:
        leader: Number of the spawned process, living or not yet reaped, or dead.
        token: What it was given in its environment.
        subreaper: Whether its orphans are handed to us.
        known: Tells the leaders of other trees.
    """
    if subreaper and _FAST:
        roots = list(strays_of_ours(leader, token, known))
    else:
        roots = [stat for stat in bearers(frozenset((token,)))[token] if stat.pid != leader]
    found: dict[int, Stat] = {stat.pid: stat for stat in descendants(leader)}
    for root in roots:
        if not root.dead:
            found[root.pid] = root
        found.update((stat.pid, stat) for stat in descendants(root.pid))
    return [Identity(stat.pid, stat.created, boot_mark()) for stat in found.values()]


def reap_orphans(ours: Callable[[int], bool]) -> int:
    """Reap dead orphans that were handed to us; how many.

    Children that other code of this program started are left to it. They are known by their
    session, which is this program's, or one that they lead themselves. A process is an orphan
    for certain if it is in one of our trees' sessions, or in that of a third process.

    Args:
        ours: Tells a child that the supervisor reaps itself.
    """
    if not _FAST:
        return 0
    count = 0
    own_session = os.getsid(0)
    for pid in _children(os.getpid()):
        stat = None if ours(pid) else read_stat(pid)
        if stat and stat.dead and stat.session not in (own_session, pid):
            try:
                count += os.waitpid(pid, os.WNOHANG)[0] == pid
            except ChildProcessError:
                continue  # whoever started it was faster
    return count
