"""A GPU that can't be used any more takes its own service out, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.outside import Outside

PICTURE = {
    "1": {
        "class_type": "EmptyImage",
        "inputs": {"width": 32, "height": 16, "batch_size": 1, "color": 0x336699},
    },
    "3": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "out"}},
}
BROKEN = "CUDA error: uncorrectable ECC error encountered"
SPOILED = "CUDA error: an illegal memory access was encountered"
FIRST, SECOND = "simulation-gpu0", "simulation-gpu1"


def submit(
    machine: Outside, instance: str = "", message: str = "", ending: str = "exception"
) -> str:
    """A job that meets a fault on that instance alone; its id."""
    graph: dict[str, Any] = json.loads(json.dumps(PICTURE))
    if instance:
        inputs = {"image": ["1", 0], "instance": instance, "message": message}
        inputs["ending"] = ending
        graph["2"] = {"class_type": "SimulateFault", "inputs": inputs}
        graph["3"]["inputs"]["images"] = ["2", 0]
    path = machine.folder / "graph.json"
    path.write_text(json.dumps(graph), encoding="utf-8")
    done = machine.call("submit", str(path))
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def completed(machine: Outside, job: str) -> None:
    machine.until("job_finished", job_id=job, outcome="completed")


def process(machine: Outside, name: str) -> dict[str, Any]:
    found = {one["name"]: one for one in json.loads(machine.call("ps", "--json").stdout)}
    return dict(found[name])


def without(machine: Outside, name: str, ending: str = "exception") -> str:
    """A job that only the other of two instances can do; *name* is where it fails first."""
    while True:
        job = submit(machine, name, BROKEN, ending)
        completed(machine, job)
        if process(machine, name)["state"] == "fatal":
            return job


@pytest.fixture
def two(outside: Callable[..., Outside]) -> Outside:
    machine = outside(WORKERS="simulation:2", MOCK_GPU_NUM="2").start()
    machine.until("machine_ready")
    return machine


@pytest.mark.parametrize("ending", ["exception", "abort"])
def test_a_broken_gpu_is_taken_out_and_its_job_done_elsewhere(two: Outside, ending: str) -> None:
    job = without(two, FIRST, ending)
    shown = json.loads(two.call("jobs", "show", job, "--json").stdout)
    assert shown["status"] == "completed"
    assert int(shown.get("retry_count") or 0) == 0
    told = two.once("condition_changed", condition="degraded", holds=True)
    for words in ("GPU 0", "uncorrectable ECC error", "machine-lifecycle restart simulation-gpu0"):
        assert words in told["reason"]
    assert process(two, SECOND)["state"] == "running"
    completed(two, submit(two))

    restarted = two.call("restart", FIRST)
    assert restarted.returncode == 0, restarted.stderr
    two.until("condition_changed", condition="degraded", holds=False)
    assert process(two, FIRST)["state"] == "running"


def test_without_a_gpu_left_the_machine_fails(outside: Callable[..., Outside]) -> None:
    machine = outside(MACHINE_BOOT_ATTEMPTS="1").start()
    machine.until("machine_ready")
    submit(machine, FIRST, BROKEN)
    assert machine.wait() == 3
    assert "gpu-unusable" in json.dumps(machine.events)


def test_a_spoiled_process_is_restarted_and_taken_out_when_it_comes_back(
    outside: Callable[..., Outside],
) -> None:
    machine = outside(ON_FAILED="stay").start()
    machine.until("machine_ready")
    job = submit(machine, FIRST, SPOILED)
    # The same job again proves nothing against the GPU: it is given up, and the service goes on.
    machine.until("job_finished", job_id=job, outcome="failed")
    outcomes = [one["outcome"] for one in machine.events if one["kind"] == "job_finished"]
    assert outcomes == ["released", "released", "failed"]
    changes = [one["process"] for one in machine.events if one["kind"] == "process_changed"]
    assert len({one["pid"] for one in changes if one["name"] == FIRST and one["ready"]}) == 3
    completed(machine, submit(machine))
    # Another job does.
    submit(machine, FIRST, SPOILED)
    machine.until("machine_failed")
    assert "again after a restart" in json.dumps(machine.events)


def test_the_story_of_a_job_names_what_its_service_died_of(
    outside: Callable[..., Outside],
) -> None:
    machine = outside().start()
    machine.until("machine_ready")
    job = submit(machine, FIRST, SPOILED, "abort")
    machine.until("job_finished", job_id=job, outcome="failed")
    shown = json.loads(machine.call("jobs", "show", job, "--json").stdout)
    for told in (shown["error"], *(run["error"] for run in shown["history"])):
        assert "simulation-gpu0: killed by SIGABRT, an illegal memory access" in told, shown
