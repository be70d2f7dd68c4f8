"""What a process may take of its host, as the kernel tells of it and of what it forks at once."""

from __future__ import annotations

import json
import os
import resource
import sys
from pathlib import Path
from typing import Any

import pytest

from machine_lifecycle.model.limits import UNLIMITED, Limits
from machine_lifecycle.model.processes import Command
from machine_lifecycle.supervisor import spawn
from machine_lifecycle.supervisor.errors import LimitsUnusable, ProgramNotFound
from tests.support.patience import PATIENCE

_TELL = """
import json, os, resource, subprocess, sys
umask = os.umask(0)
told = {
    "nice": os.getpriority(os.PRIO_PROCESS, 0),
    "cpus": sorted(os.sched_getaffinity(0)),
    "nofile": resource.getrlimit(resource.RLIMIT_NOFILE),
    "core": resource.getrlimit(resource.RLIMIT_CORE),
    "umask": umask,
    "uid": os.getuid(),
    "gid": os.getgid(),
    "io": subprocess.run(["ionice"], capture_output=True, text=True).stdout.strip(),
}
print(json.dumps(told), flush=True)
"""
_TWICE = f"""
import os
if os.fork() == 0:
    exec({_TELL!r})
    os._exit(0)
os.wait()
exec({_TELL!r})
"""


def told(limits: Limits, folder: Path) -> list[dict[str, Any]]:
    """What a process and the first that it forked say of themselves."""
    command = Command(argv=(sys.executable, "-c", _TWICE), limits=limits)
    path = folder / "out"
    with path.open("wb") as out:
        child = spawn.run("one", command, {"PATH": os.defpath}, output=out.fileno())
        assert child.wait(timeout=PATIENCE) == 0
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_all_of_them_hold_for_it_and_for_what_it_forks(tmp_path: Path) -> None:
    cpu = min(os.sched_getaffinity(0))
    most = 300
    limits = Limits(
        nice=os.getpriority(os.PRIO_PROCESS, 0) + 3,
        ionice="best-effort:6",
        cpus=(cpu,),
        resources={"nofile": most, "core": 0},
        umask=0o027,
    )
    found = told(limits, tmp_path)
    assert len(found) == 2
    for one in found:
        assert one["nice"] == limits.nice
        assert one["cpus"] == [cpu]
        assert one["nofile"] == [most, most]
        assert one["core"] == [0, 0]
        assert one["umask"] == 0o027
        assert one["io"] == "best-effort: prio 6"


def test_nothing_is_changed_that_is_not_said(tmp_path: Path) -> None:
    for one in told(Limits(), tmp_path):
        assert one["nice"] == os.getpriority(os.PRIO_PROCESS, 0)
        assert one["nofile"] == list(resource.getrlimit(resource.RLIMIT_NOFILE))
        assert one["uid"] == os.getuid()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
def test_another_user(tmp_path: Path) -> None:
    limits = Limits(user="daemon")
    command = Command(argv=("/usr/bin/id", "-un"), limits=limits)
    with (tmp_path / "out").open("wb") as out:
        assert spawn.run("one", command, {}, output=out.fileno()).wait(timeout=PATIENCE) == 0
    assert (tmp_path / "out").read_text("utf-8") == "daemon\n"


def test_a_program_that_is_not_there_is_told_by_name() -> None:
    command = Command(argv=("/nowhere/program",), limits=Limits(resources={"core": 0}))
    with pytest.raises(ProgramNotFound, match="/nowhere/program"):
        spawn.run("one", command, {})


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (Limits(cpus=(4095,)), "no processor 4095"),
        (Limits(user="no-such-user"), "no user no-such-user"),
        (Limits(group="no-such-group"), "no group no-such-group"),
    ],
)
def test_impossible_ones(limits: Limits, words: str) -> None:
    with pytest.raises(LimitsUnusable, match=words) as caught:
        spawn.run("one", Command(argv=("true",), limits=limits), {})
    assert caught.value.code == "limits-unusable"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may")
def test_what_needs_root() -> None:
    limits = Limits(nice=-5, user=str(os.getuid()), resources={"memlock": UNLIMITED})
    with pytest.raises(LimitsUnusable, match="needs root"):
        spawn.run("one", Command(argv=("true",), limits=limits), {})
