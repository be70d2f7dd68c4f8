"""``--init``: the first process of a container, and here the first of a process namespace."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable

import psutil
import pytest

from tests.support.outside import Outside
from tests.support.patience import PATIENCE

_OWN_NAMESPACE = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")


def _may_unshare() -> bool:
    try:
        tried = subprocess.run([*_OWN_NAMESPACE, "true"], capture_output=True, check=False)
    except FileNotFoundError:
        return False
    return tried.returncode == 0


def _orchestrator(init: psutil.Process) -> psutil.Process:
    return next(c for c in init.children() if c.cmdline()[-1:] == ["boot"])


def test_a_killed_orchestrator_is_started_again_and_adopts(
    outside: Callable[..., Outside],
) -> None:
    machine = outside().start("--init")
    assert machine.child is not None
    init = psutil.Process(machine.child.pid)
    machine.until_status("ready")
    first = _orchestrator(init)
    before = {p["name"]: p["pid"] for p in json.loads(machine.call("ps", "--json").stdout)}
    first.kill()
    machine.until_status("ready", not_pid=first.pid)
    after = {p["name"]: p["pid"] for p in json.loads(machine.call("ps", "--json").stdout)}
    same = {name for name in after if after[name] == before[name]}
    assert same == set(after) - {"health-server"}
    machine.signal(signal.SIGTERM)
    assert machine.wait() == 0
    assert machine.roles() == []


@pytest.mark.skipif(not _may_unshare(), reason="no process namespaces without privileges")
def test_as_process_one_it_boots_stops_and_leaves_nothing(
    outside: Callable[..., Outside],
) -> None:
    machine = outside()
    child = subprocess.Popen(
        [*_OWN_NAMESPACE, sys.executable, "-m", "machine_lifecycle", "--init"],
        env=machine.env, cwd=machine.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    machine.until_status("ready")
    (init,) = psutil.Process(child.pid).children()
    init.send_signal(signal.SIGTERM)
    assert child.wait(PATIENCE) == 0
    assert machine.roles() == []
