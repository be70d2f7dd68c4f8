"""Codes that no other test makes a whole machine meet: each caused as its user would cause it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest

from machine_lifecycle.errors import ExitCode
from tests.e2e.test_life import GRAPH
from tests.support.outside import Outside
from tests.support.patience import PATIENCE


@attrs.frozen(kw_only=True)
class Mistake:
    """Something that was written wrongly.

    Attributes:
        code: Of the error.
        settings: Of the machine; ``{folder}`` stands for a folder of its own.
        files: What lies in that folder.
        advice: In one of the remedies.
    """

    code: str
    settings: dict[str, str]
    files: dict[str, Any] = attrs.field(factory=dict)
    advice: str


ISLAND = {"REDIS": "embedded"}
COMFYUI = {**ISLAND, "WORKERS": "comfyui:1", "GPU_MODE": "mock", "MOCK_GPU_NUM": "1"}
MAPPED = {"SERVICE_MAPPING_PATH": "{folder}/mapping.json", **ISLAND}


def mapping(**service: Any) -> dict[str, Any]:
    return {
        "mapping.json": {
            "workers": {"mine": {"services": ["simulation"]}},
            "services": {"simulation": {"connector": "SimulationConnector", **service}},
        }
    }


def distribution(name: str) -> dict[str, Any]:
    return {
        f"site/{name}-1.0.dist-info/METADATA": f"Name: {name}\nVersion: 1.0\n",
        f"site/{name}-1.0.dist-info/entry_points.txt": (
            "[machine_lifecycle.services]\ntwin = twin:SERVICE\n"
        ),
    }


MISTAKES = (
    Mistake(
        code="setting-invalid",
        settings={"MACHINE_HEALTH_PORT": "first"},
        advice="export MACHINE_HEALTH_PORT=",
    ),
    Mistake(
        code="setting-invalid",
        settings={"MACHINE_STALL_LIMITS": "instaling=900"},
        advice="Write MACHINE_STALL_LIMITS=installing=900",
    ),
    Mistake(
        code="bad-machine-id", settings={"MACHINE_ID": "box/7"}, advice="export MACHINE_ID=box-7"
    ),
    Mistake(code="workers-invalid", settings={"WORKERS": "simulation:-2"}, advice="WORKERS="),
    Mistake(
        code="workers-invalid",
        settings={"WORKERS": "simulation:one"},
        advice="export WORKERS=simulation:1",
    ),
    Mistake(
        code="port-clash",
        settings={"SIMULATION_BASE_PORT": "31999", "MACHINE_HEALTH_PORT": "31999"},
        advice="export SIMULATION_BASE_PORT=",
    ),
    Mistake(
        code="port-range",
        settings={"SIMULATION_BASE_PORT": "65535", "WORKERS": "simulation:2"},
        advice="port",
    ),
    Mistake(
        code="variable-missing",
        settings={**ISLAND, "WORKERS": "comfyui-remote:1"},
        advice="export WORKER_COMFYUI_REMOTE_HOST=",
    ),
    Mistake(
        code="mapping-unreadable",
        settings={"SERVICE_MAPPING_PATH": "{folder}/none.json"},
        advice="none.json",
    ),
    Mistake(
        code="mapping-invalid",
        settings=MAPPED,
        files={"mapping.json": {"workers": 3}},
        advice="",
    ),
    Mistake(
        code="too-many-instances",
        settings={**MAPPED, "WORKERS": "mine:3"},
        files=mapping(service_instances_per_machine=2),
        advice="",
    ),
    Mistake(
        code="installer-broken",
        settings={**MAPPED, "WORKERS": "mine:1"},
        files=mapping(installer="nowhere:Installer"),
        advice="import nowhere",
    ),
    Mistake(
        code="module-missing",
        settings={**ISLAND, "WORKERS": "lacking:SERVICE:1", "PYTHONPATH": "{folder}"},
        files={
            "lacking.py": (
                "import attrs\n"
                "from machine_lifecycle.services.simulation import SERVICE as KNOWN\n"
                "SERVICE = attrs.evolve(KNOWN, modules=(('not_there', 'not-there>=2'),))\n"
            )
        },
        advice="-m pip install 'not-there>=2'",
    ),
    Mistake(
        code="nothing-to-start",
        settings={**ISLAND, "WORKERS": "portless:SERVICE:1", "PYTHONPATH": "{folder}"},
        files={
            "portless.py": (
                "import attrs\n"
                "from machine_lifecycle.services.simulation import SERVICE as KNOWN\n"
                "SERVICE = attrs.evolve(KNOWN, name='portless', ports=None)\n"
            )
        },
        advice='"ports": ["9100"]',
    ),
    Mistake(
        code="comfy-args-unusable",
        settings={**COMFYUI, "COMFY_ARGS": "--port 99"},
        advice="export COMFYUI_BASE_PORT=",
    ),
    Mistake(
        code="nodes-invalid",
        settings={**COMFYUI, "CONFIG_NODES_PATH": "{folder}/nodes.json"},
        files={"nodes.json": {"custom_nodes": [{"name": "a pack without an address"}]}},
        advice="",
    ),
    Mistake(
        code="models-invalid",
        settings={**COMFYUI, "MODELS_MANIFEST": "{folder}/models.json"},
        files={"models.json": {"models": [{"url": "ftp://example.org/a"}]}},
        advice="",
    ),
    Mistake(
        code="plugin-clash",
        settings={**ISLAND, "WORKERS": "twin:1", "PYTHONPATH": "{folder}/site"},
        files={**distribution("one"), **distribution("two")},
        advice="pip uninstall --yes",
    ),
    Mistake(
        code="bad-service-address",
        settings={
            **MAPPED,
            "WORKERS": "mine:1",
            "PYTHONPATH": "{folder}",
            "AFAR_HOST": "127.0.0.1",
            "AFAR_PORT": "eighty",
        },
        files={
            "afar.py": (
                "from machine_lifecycle import HttpConnector\n"
                "class Afar(HttpConnector):\n    service = 'afar'\n"
            ),
            "mapping.json": {
                "workers": {
                    "mine": {
                        "services": ["afar"],
                        "job_service_required_map": [
                            {"job_service_required": "afar", "worker_service": "afar"}
                        ],
                    }
                },
                "services": {"afar": {"connector": "afar:Afar", "type": "external"}},
            },
        },
        advice="export AFAR_PORT=",
    ),
)


def laid_out(machine: Outside, mistake: Mistake) -> None:
    for name, content in mistake.files.items():
        path = machine.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        text = content if isinstance(content, str) else json.dumps(content)
        path.write_text(text, encoding="utf-8")
    ours = machine.env.get("PYTHONPATH", "")
    for name, value in mistake.settings.items():
        machine.env[name] = value.replace("{folder}", str(machine.folder))
    if ours and machine.env["PYTHONPATH"] != ours:
        machine.env["PYTHONPATH"] += f"{os.pathsep}{ours}"


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.code)
def test_a_mistake_ends_the_boot_with_its_code_and_advice(
    outside: Callable[..., Outside], mistake: Mistake
) -> None:
    machine = outside()
    laid_out(machine, mistake)
    done = machine.call("boot")
    said = done.stdout + done.stderr
    assert done.returncode == ExitCode.CONFIGURATION, said[-3000:]
    assert f"[{mistake.code}]" in said
    assert mistake.advice in said.replace('\\"', '"')
    assert "Traceback" not in said


def test_a_worker_by_itself_says_what_it_was_not_told(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "machine_lifecycle", "redis-worker"],
        env={"PATH": os.defpath, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert done.returncode == ExitCode.CONFIGURATION
    assert "HUB_REDIS_URL is not set [worker-setting-wrong]" in done.stderr
    assert "export HUB_REDIS_URL=" in done.stderr


def failed(machine: Outside) -> dict[str, Any]:
    """The first error of the failure that ends the machine."""
    error: dict[str, Any] = machine.start().until("machine_failed")["error"]
    assert machine.wait() == ExitCode.BOOT_FAILED
    first: dict[str, Any] = (error.get("errors") or [error])[0]
    return first


def test_a_state_in_which_nothing_moves(outside: Callable[..., Outside]) -> None:
    error = failed(
        outside(SIMULATION_READY_DELAY_MS="600000", MACHINE_STALL_LIMITS="services_starting=1")
    )
    assert error["code"] == "state-stalled"
    commands = [remedy["command"] for remedy in error["remedies"]]
    assert commands == ["machine-lifecycle logs", "export MACHINE_STALL_LIMITS=services_starting=2"]


FICKLE = """
import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from machine_lifecycle import Binding, Command, HttpConnector, HttpReady, Ports, ServiceDefinition


class FickleConnector(HttpConnector):
    service = "fickle"
    health_path = "/worker"


def process(instance):
    return Command(argv=(sys.executable, "-m", "fickle", str(instance.port)))


SERVICE = ServiceDefinition(
    name="fickle",
    summary="Well until it is looked at.",
    capabilities=("fickle",),
    connector="fickle:FickleConnector",
    process=process,
    binding=Binding.SHARED,
    ports=Ports(base=9400),
    readiness=(HttpReady(path="/healthz"),),
)


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/worker":  # it answers its worker, and then nobody any more
            self.server.socket.shutdown(socket.SHUT_RDWR)
            threading.Thread(target=self.server.shutdown).start()
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
    time.sleep(600)
"""


def test_a_service_that_is_well_only_until_it_is_looked_at_again(
    outside: Callable[..., Outside],
) -> None:
    machine = outside(**ISLAND, FICKLE_BASE_PORT="")
    (machine.folder / "fickle.py").write_text(FICKLE, encoding="utf-8")
    machine.env |= {
        "WORKERS": "fickle:SERVICE:1",
        "PYTHONPATH": os.pathsep.join(
            filter(None, (str(machine.folder), machine.env.get("PYTHONPATH", "")))
        ),
        "FICKLE_BASE_PORT": machine.env["SIMULATION_BASE_PORT"],
    }
    error = failed(machine)
    assert error["code"] == "health-check-failed"
    assert "service fickle-0" in error["summary"]
    commands = [remedy["command"] for remedy in error["remedies"]]
    assert "machine-lifecycle logs" in commands


def raising(kind: str, message: str) -> dict[str, Any]:
    graph: dict[str, Any] = json.loads(json.dumps(GRAPH))
    graph["2"] = {
        "class_type": "SimulateRaise",
        "inputs": {"image": ["1", 0], "kind": kind, "message": message},
    }
    graph["3"] = {
        "class_type": "SaveImage",
        "inputs": {"images": ["2", 0], "filename_prefix": "o"},
    }
    return graph


def test_a_warm_up_that_fails_is_why_the_machine_is_not_ready(
    outside: Callable[..., Outside], tmp_path: Path
) -> None:
    warm = tmp_path / "warm.json"
    warm.write_text(json.dumps(raising("ValueError", "no such model")), encoding="utf-8")
    limits = {"MACHINE_STATE_CAPS": "workers_starting=10", "COMFYUI_WARMUP_TIMEOUT": "1"}
    machine = outside(SIMULATION_WARMUP=str(warm), ON_FAILED="stay", **limits).start()
    error = machine.until("machine_failed")["error"]
    report = json.loads(machine.call("status", "--json").stdout)
    assert error["code"] == "state-too-long"
    assert "no such model" in error["remedies"][0]["text"]
    assert "no such model" in report["workers"][0]["trouble"]  # of warm-up-failed


@pytest.mark.parametrize(
    ("kind", "message", "code"),
    [
        ("ValueError", "no such model", "node-failed-for-good"),
        ("RuntimeError", "CUDA out of memory. Tried to allocate 2.00 GiB", "service-out-of-memory"),
    ],
)
def test_a_job_that_fails_says_by_which_code(
    outside: Callable[..., Outside], tmp_path: Path, kind: str, message: str, code: str
) -> None:
    machine = outside().start()
    machine.until("machine_ready")
    graph = tmp_path / "graph.json"
    graph.write_text(json.dumps(raising(kind, message)), encoding="utf-8")
    done = machine.call("submit", str(graph), "--watch", "--json", "--max-retries", "1")
    details = json.loads(done.stdout)["error_details"]
    assert details["code"] == code
    assert message in details["summary"]
    assert details["remedies"]


CARELESS = """
from machine_lifecycle import JobResult
from machine_lifecycle.connectors.comfyui import SimulationConnector


class Careless(SimulationConnector):
    async def run(self, job, progress):
        if "crash" in job.payload:
            raise ZeroDivisionError("by nothing")
        return JobResult(data={"made": object()})
"""


@pytest.mark.parametrize("payload", [{"crash": 1}, {"result": 1}])
def test_a_connector_that_breaks_fails_its_job_alone(
    outside: Callable[..., Outside], payload: dict[str, Any]
) -> None:
    machine = outside()
    mistake = Mistake(
        code="job-crashed",
        settings={**MAPPED, "WORKERS": "mine:1", "PYTHONPATH": "{folder}"},
        files={"careless.py": CARELESS, **mapping(connector="careless:Careless")},
        advice="",
    )
    laid_out(machine, mistake)
    machine.start().until("machine_ready")
    path = machine.folder / "job.json"
    path.write_text(json.dumps(payload), encoding="utf-8")
    words = ("--service", "simulation", "--watch", "--json", "--max-retries", "1")
    done = machine.call("submit", str(path), *words)
    details = json.loads(done.stdout)["error_details"]
    assert details["code"] == mistake.code
    assert details["remedies"]
    assert json.loads(machine.call("status", "--json").stdout)["state"] == "ready"
