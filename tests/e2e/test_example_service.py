"""The package in examples/: built, installed, named in WORKERS, booted, given jobs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from uv import find_uv_bin

from tests.support.outside import Outside, machines
from tests.support.ports import free_port

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "shout-service"
pytestmark = pytest.mark.xdist_group("shout")  # it is built in its folder, once


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of packages with the example in it. uv builds it itself: nothing is downloaded."""
    target = tmp_path_factory.mktemp("site")
    words = ("pip", "install", "--offline", "--no-deps", "--target", str(target), str(EXAMPLE))
    done = subprocess.run(
        [find_uv_bin(), *words], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return target


@pytest.fixture
def machine(installed: Path) -> Iterator[Outside]:
    ours = os.environ.get("PYTHONPATH", "")  # noqa: TID251 - added to, not replaced
    with machines() as make:
        yield make(
            WORKERS="shout:2",
            REDIS="embedded",
            SHOUT_BASE_PORT=str(free_port(count=8)),
            PYTHONPATH=os.pathsep.join(filter(None, (str(installed), ours))),
        )


def shouted(machine: Outside, payload: dict[str, Any]) -> tuple[int, Any]:
    path = machine.folder / "job.json"
    path.write_text(json.dumps(payload), encoding="utf-8")
    out = str(machine.folder / "out")
    words = ("submit", str(path), "--service", "shout", "--json", "--out", out)
    done = machine.call(*words)
    return done.returncode, json.loads(done.stdout)


def test_it_is_listed_with_its_package_and_is_not_imported_for_that(machine: Outside) -> None:
    done = machine.call("services", "--json")
    rows = json.loads(done.stdout)
    kinds = {one["name"]: one["kind"] for one in rows if one["package"] == "shout-service"}
    assert kinds == {"shout": "service", "ShoutConnector": "connector", "installShout": "installer"}
    listed = {one["name"]: one for one in rows}
    assert listed["shout"]["package"] == "shout-service"
    assert listed["shout"]["version"] == "1.0"
    assert listed["shout"]["summary"] == ""


def test_it_boots_does_jobs_and_is_installed_once(machine: Outside) -> None:
    machine.start().until("machine_ready")
    listed = json.loads(machine.call("ps", "--json").stdout)
    names = [process["name"] for process in listed if process["role"] == "service"]
    assert len(names) == 2
    first = int(machine.env["SHOUT_BASE_PORT"])
    assert [one["port"] for one in listed if one["role"] == "service"] == [first, first + 1]
    assert all(process["ready"] for process in listed)
    code, answer = shouted(machine, {"text": "hello"})
    assert (code, answer["status"]) == (0, "completed")
    assert Path(answer["saved"][0]).read_text(encoding="utf-8") == "HELLO!"
    code, answer = shouted(machine, {"words": "hello"})
    assert code == 1
    assert "there is no text in the job" in answer["error"]
    assert answer["retry_count"] == 0, "it says itself that another run would end the same"
    steps = [e for e in machine.events if e["kind"] == "step_finished" and e["step"] == "marks"]
    assert [step["skipped"] for step in steps] == [False]

    machine.signal(signal.SIGTERM)
    assert machine.wait() == 0
    machine.start().until("machine_ready")
    steps = [e for e in machine.events if e["kind"] == "step_finished" and e["step"] == "marks"]
    assert [step["skipped"] for step in steps] == [True]


def test_a_mapping_names_its_parts_by_what_the_package_offers(machine: Outside) -> None:
    mapping = {
        "workers": {
            "loud": {
                "services": ["shout"],
                "is_gpu_bound": False,
                "job_service_required_map": [
                    {"job_service_required": "shout", "worker_service": "shout"}
                ],
            }
        },
        "services": {
            "shout": {
                "connector": "ShoutConnector",
                "installer": "installShout",
                "type": "pm2_service",
                "ports": ["${SHOUT_BASE_PORT:-9200}"],
            }
        },
    }
    path = machine.folder / "mapping.json"
    path.write_text(json.dumps(mapping), encoding="utf-8")
    machine.env |= {"SERVICE_MAPPING_PATH": str(path), "WORKERS": "loud:1"}
    machine.start().until("machine_ready")
    assert any(e["kind"] == "step_finished" and e["step"] == "marks" for e in machine.events)
    code, answer = shouted(machine, {"text": "hello"})
    assert (code, answer["status"]) == (0, "completed")


def test_a_base_port_that_is_none_is_told(machine: Outside) -> None:
    done = machine.call("plan", SHOUT_BASE_PORT="ninety")
    assert done.returncode == 2
    assert "SHOUT_BASE_PORT=ninety in the environment: must be a port" in done.stderr


@pytest.fixture
def by_reference(machine: Outside) -> Callable[..., Any]:
    machine.env["WORKERS"] = "shout_service:SERVICE:1"
    return machine.call


def test_it_can_be_named_by_reference(by_reference: Callable[..., Any]) -> None:
    done = by_reference("plan", "--json")
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)
    assert [one["role"] for one in made["processes"]] == ["service", "worker"]
