"""A graph that each service runs before it takes jobs."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from tests.e2e.test_life import GRAPH
from tests.support.outside import Outside
from tests.support.patience import PATIENCE


def written(folder: Path, graph: Any, name: str = "warm.json") -> str:
    path = folder / name
    path.write_text(json.dumps(graph), encoding="utf-8")
    return str(path)


def raising() -> dict[str, Any]:
    graph: dict[str, Any] = json.loads(json.dumps(GRAPH))
    graph["2"] = {
        "class_type": "SimulateRaise",
        "inputs": {"image": ["1", 0], "kind": "ValueError", "message": "no such model"},
    }
    return graph


def history(machine: Outside, number: int = 0) -> dict[str, Any]:
    """What the service has run, as it tells itself."""
    port = int(machine.env["SIMULATION_BASE_PORT"]) + number
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/history", timeout=PATIENCE) as answer:
        found: dict[str, Any] = json.load(answer)
    return found


def pid_of(machine: Outside, name: str) -> int:
    processes = json.loads(machine.call("ps", "--json").stdout)
    return next(int(one["pid"]) for one in processes if one["name"] == name)


def test_ready_comes_after_each_instance_ran_it(
    outside: Callable[..., Outside], tmp_path: Path
) -> None:
    warm = written(tmp_path, GRAPH)
    machine = outside(SIMULATION_WARMUP=warm, MOCK_GPU_NUM="2", WORKERS="simulation:2").start()
    machine.until("machine_ready")
    for number in (0, 1):
        (entry,) = history(machine, number).values()
        assert entry["status"]["status_str"] == "success"
    assert json.loads(machine.call("jobs", "list", "--json").stdout)["jobs"] == []
    done = machine.call("submit", warm, "--watch")
    assert done.returncode == 0, done.stderr


def test_a_service_that_is_started_again_runs_it_again_and_a_living_one_does_not(
    outside: Callable[..., Outside], tmp_path: Path
) -> None:
    machine = outside(SIMULATION_WARMUP=written(tmp_path, GRAPH), MOCK_GPU_NUM="1").start()
    machine.until("machine_ready")
    (first,) = history(machine)
    # A new worker finds the service warm.
    worker = pid_of(machine, "redis-worker-simulation-0")
    psutil.Process(worker).kill()
    machine.until_process("redis-worker-simulation-0", ready=False)
    machine.until_process("redis-worker-simulation-0", ready=True)
    assert list(history(machine)) == [first]
    # So does a new orchestrator.
    assert machine.child is not None
    machine.child.kill()
    machine.wait()
    machine.start()
    machine.until("machine_ready")
    assert list(history(machine)) == [first]
    # A new service is cold.
    psutil.Process(pid_of(machine, "simulation-gpu0")).kill()
    machine.until_process("simulation-gpu0", ready=False)
    machine.until_process("simulation-gpu0", ready=True)
    done = machine.call("submit", written(tmp_path, GRAPH, "job.json"), "--watch")
    assert done.returncode == 0, done.stderr
    again = list(history(machine))
    assert len(again) == 2
    assert first not in again


def test_a_graph_that_fails_keeps_the_machine_from_being_ready_and_says_why(
    outside: Callable[..., Outside], tmp_path: Path
) -> None:
    machine = outside(
        SIMULATION_WARMUP=written(tmp_path, raising()), MACHINE_STATE_CAPS="workers_starting=10"
    ).start()
    machine.until("changed", target="workers_starting")
    machine.until("step_progressed", state="workers_starting")
    failed = machine.until("machine_failed")
    assert "no such model" in json.dumps(failed), failed
    assert machine.wait() == 3
    kinds = [event["kind"] for event in machine.events]
    assert "machine_ready" not in kinds
    said = [e["detail"] for e in machine.events if e["kind"] == "step_progressed"]
    assert any("no such model" in words for words in said)


def test_a_bad_file_is_told_before_anything_is_installed(
    outside: Callable[..., Outside], tmp_path: Path
) -> None:
    wrong = {"1": {"inputs": {"image": ["7", 0]}}, "2": {"class_type": "ImageInvert", "inputs": 3}}
    machine = outside(SIMULATION_WARMUP=written(tmp_path, wrong)).start()
    failed = json.dumps(machine.until("machine_failed"))
    assert machine.wait() != 0
    assert "warm-up-unusable" in failed
    for problem in ("no class_type", "node 7, which is not there", "inputs of node 2"):
        assert problem in failed
    assert not [e for e in machine.events if e["kind"] == "changed" and e["target"] == "installing"]


def test_a_missing_file_and_one_without_json_are_told(
    outside: Callable[..., Outside], tmp_path: Path
) -> None:
    (tmp_path / "no.json").write_text("{'", encoding="utf-8")
    (tmp_path / "deep.json").write_text("[" * 100_000, encoding="utf-8")
    told = {"absent.json": "No such file", "no.json": "no JSON", "deep.json": "no JSON"}
    for name, words in told.items():
        machine = outside(SIMULATION_WARMUP=str(tmp_path / name)).start()
        assert words in json.dumps(machine.until("machine_failed"))
        assert machine.wait() != 0
