"""Limits and variables of a service, from the mapping to the kernel."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from tests.support.outside import Outside


def with_limits(outside: Callable[..., Outside], **limits: Any) -> Outside:
    return with_service(outside, limits=limits)


def with_service(outside: Callable[..., Outside], **entry: Any) -> Outside:
    machine = outside()
    services = {"simulation": {"connector": "SimulationConnector", **entry}}
    workers = {"simulation": {"services": ["simulation"]}}
    path = machine.folder / "mapping.json"
    path.write_text(json.dumps({"services": services, "workers": workers}), encoding="utf-8")
    machine.env["SERVICE_MAPPING_PATH"] = str(path)
    return machine


def test_a_service_has_them(outside: Callable[..., Outside]) -> None:
    machine = with_limits(outside, nofile=777, core=0).start()
    machine.until("machine_ready")
    told = Path(f"/proc/{pid(machine, 'simulation-gpu0')}/limits").read_text("ascii")
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


def pid(machine: Outside, name: str) -> int:
    processes = {one["name"]: one for one in json.loads(machine.call("ps", "--json").stdout)}
    return int(processes[name]["pid"])


def variable(machine: Outside, name: str) -> str | None:
    return psutil.Process(pid(machine, "simulation-gpu0")).environ().get(name)


def test_a_service_gets_its_variables_from_files(outside: Callable[..., Outside]) -> None:
    machine = with_service(outside, env_files=["of-it.env", "-${NOWHERE:-/nowhere}/other.env"])
    file = Path(machine.env["WORKSPACE_PATH"]) / "of-it.env"
    refused = machine.call("plan")
    assert refused.returncode == 2
    assert "env-files-unusable" in refused.stderr
    assert f"{file} is not there" in refused.stderr

    file.parent.mkdir(exist_ok=True)
    file.write_text("PACK_TOKEN=canary-5521\n", encoding="utf-8")
    planned = machine.call("plan", "--json")
    assert "canary" not in planned.stdout + planned.stderr
    assert json.loads(planned.stdout)["processes"][0]["command"]["env_files"] == [
        {"path": str(file), "required": True},
        {"path": "/nowhere/other.env", "required": False},
    ]
    machine.start().until("machine_ready")
    assert variable(machine, "PACK_TOKEN") == "canary-5521"
    worker = psutil.Process(pid(machine, "redis-worker-simulation-0"))
    assert "PACK_TOKEN" not in worker.environ(), "it is the service's alone"

    before = pid(machine, "simulation-gpu0")
    unchanged = machine.call("reload")
    assert unchanged.returncode == 0, unchanged.stderr
    assert pid(machine, "simulation-gpu0") == before
    file.write_text("PACK_TOKEN=canary-7733\n", encoding="utf-8")
    reloaded = machine.call("reload")
    assert reloaded.returncode == 0, reloaded.stderr
    assert variable(machine, "PACK_TOKEN") == "canary-7733"
    machine.signal(signal.SIGTERM)
    machine.wait()
    places = [machine.folder / "stderr", *Path(machine.env["WORKSPACE_PATH"]).rglob("*")]
    texts = [path for path in places if path.is_file() and path != file]
    assert texts
    assert [path for path in texts if b"canary-" in path.read_bytes()] == []
