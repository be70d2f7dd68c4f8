"""Limits of a service, from the mapping to the kernel."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.outside import Outside


def with_limits(outside: Callable[..., Outside], **limits: Any) -> Outside:
    machine = outside()
    services = {"simulation": {"connector": "SimulationConnector", "limits": limits}}
    workers = {"simulation": {"services": ["simulation"]}}
    path = machine.folder / "mapping.json"
    path.write_text(json.dumps({"services": services, "workers": workers}), encoding="utf-8")
    machine.env["SERVICE_MAPPING_PATH"] = str(path)
    return machine


def test_a_service_has_them(outside: Callable[..., Outside]) -> None:
    machine = with_limits(outside, nofile=777, core=0).start()
    machine.until("machine_ready")
    processes = {one["name"]: one for one in json.loads(machine.call("ps", "--json").stdout)}
    told = Path(f"/proc/{processes['simulation-gpu0']['pid']}/limits").read_text("ascii")
    (line,) = [line for line in told.splitlines() if line.startswith("Max open files")]
    assert line.split()[3:5] == ["777", "777"]
    done = json.loads(machine.call("plan", "--json").stdout)
    assert done["processes"][0]["command"]["limits"]["resources"] == {"nofile": 777, "core": 0}


def test_what_cannot_be_is_told_by_the_plan(outside: Callable[..., Outside]) -> None:
    planned = with_limits(outside, user="no-such-user", cpus="4095").call("plan")
    assert planned.returncode == 2
    assert "limits-unusable" in planned.stderr
    assert "there is no user no-such-user" in planned.stderr
    assert "no processor 4095" in planned.stderr
