"""Give a process its limits before its program begins.

``nice``, ``ionice``, ``taskset`` and ``prlimit`` set them and become the program: whatever that
forks at once has them too. Setting them on the process after it was spawned would miss that, and
setting them between fork and exec would need ``preexec_fn``. Each costs about a millisecond, at
the start of a process that has such a limit. Mask, user and group are ``Popen``'s own; a user
costs a fork instead of a vfork.
"""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import resource
import shutil
from collections.abc import Iterator
from typing import Any

from machine_lifecycle.model.limits import RESOURCES, UNLIMITED, Limits
from machine_lifecycle.supervisor.errors import LimitsUnusable

__all__ = ["check_limits", "popen_limits", "prefix"]


def prefix(limits: Limits) -> tuple[str, ...]:
    """The words in front of a program that give it its limits, if we start it."""
    return limits.words(os.getpriority(os.PRIO_PROCESS, 0))


def popen_limits(limits: Limits) -> dict[str, Any]:
    """The arguments of ``Popen`` that give a process its mask, user and group."""
    arguments: dict[str, Any] = {}
    if limits.umask is not None:
        arguments["umask"] = limits.umask
    if limits.user:
        user = _user(limits.user)
        arguments |= {"user": user.pw_uid, "group": user.pw_gid}
        arguments["extra_groups"] = os.getgrouplist(user.pw_name, user.pw_gid)
    if limits.group:
        arguments["group"] = _group(limits.group).gr_gid
    return arguments


def check_limits(process: str, limits: Limits) -> None:
    """Raise if a process can't have these limits here.

    Raises:
        LimitsUnusable: With every reason.
    """
    problems = tuple(_problems(limits))
    if problems:
        raise LimitsUnusable(process=process, problems=problems)


def _problems(limits: Limits) -> Iterator[str]:
    root = os.geteuid() == 0
    for tool in prefix(limits):
        if tool in ("nice", "ionice", "taskset", "prlimit") and not shutil.which(tool):
            yield f"`{tool}` is not installed"
    if limits.nice is not None and limits.nice < os.getpriority(os.PRIO_PROCESS, 0) and not root:
        yield f"nice {limits.nice} needs root"
    if limits.ionice.startswith("realtime") and not root:
        yield f"ionice {limits.ionice} needs root"
    missing = set(limits.cpus) - os.sched_getaffinity(0)
    if missing:
        yield f"there is no processor {', '.join(map(str, sorted(missing)))} for us here"
    for name, value in sorted(limits.resources.items()):
        hard = resource.getrlimit(getattr(resource, RESOURCES[name]))[1]
        above = hard != UNLIMITED and (value == UNLIMITED or value > hard)
        if above and not root:
            yield f"{name} may be at most {hard} without root"
    yield from _problems_of_names(limits, root=root)


def _problems_of_names(limits: Limits, *, root: bool) -> Iterator[str]:
    for kind, name, find in (("user", limits.user, _user), ("group", limits.group, _group)):
        if not name:
            continue
        found: Any = None
        with contextlib.suppress(KeyError):
            found = find(name)
        if found is None:
            yield f"there is no {kind} {name}"
        elif not root:
            yield f"{kind} {name} needs root"


def _user(name: str) -> pwd.struct_passwd:
    return pwd.getpwuid(int(name)) if name.isdigit() else pwd.getpwnam(name)


def _group(name: str) -> grp.struct_group:
    return grp.getgrgid(int(name)) if name.isdigit() else grp.getgrnam(name)
