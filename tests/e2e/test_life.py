"""One life from outside: boot, jobs, pages, commands, drain, stop."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from machine_lifecycle.errors import ExitCode
from tests.support.outside import Outside
from tests.support.patience import PATIENCE

GRAPH = {
    "1": {
        "class_type": "EmptyImage",
        "inputs": {"width": 32, "height": 16, "batch_size": 1, "color": 0x336699},
    },
    "2": {"class_type": "ImageInvert", "inputs": {"image": ["1", 0]}},
    "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "out"}},
}
TOKEN = "a-token-for-this-test"


@pytest.fixture
def machine(outside: Callable[..., Outside]) -> Outside:
    made = outside(MACHINE_HEALTH_TOKEN=TOKEN).start()
    made.until("machine_ready")
    return made


def graph_file(machine: Outside, graph: dict[str, Any]) -> str:
    path = machine.folder / "graph.json"
    path.write_text(json.dumps(graph), encoding="utf-8")
    return str(path)


def page(machine: Outside, path: str, token: str = "", method: str = "GET") -> tuple[int, Any]:
    url = json.loads(machine.call("status", "--json").stdout)["health_url"] + path
    request = urllib.request.Request(url, method=method)  # noqa: S310 - loopback
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:  # noqa: S310 - loopback
            status, text = answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            status, text = error.code, error.read().decode()
    return status, json.loads(text) if text.startswith(("{", "[")) else text


def test_a_job_goes_through_and_its_picture_comes_back(machine: Outside) -> None:
    from PIL import Image  # noqa: PLC0415 - only this test looks at pixels

    done = machine.call(
        "submit", graph_file(machine, GRAPH), "--watch", "--out", str(machine.folder / "o")
    )
    assert done.returncode == 0, done.stderr
    saved = Path(done.stdout.strip())
    with Image.open(saved) as picture:
        assert (picture.size, picture.getpixel((0, 0))) == ((32, 16), (204, 153, 101))
    machine.until("job_started")
    machine.until("changed", source="processing", target="ready")
    machine.signal(signal.SIGTERM)
    assert machine.wait() == 0


def test_a_graph_that_cannot_run_fails_at_once_and_says_which_node(machine: Outside) -> None:
    broken = json.loads(json.dumps(GRAPH))
    broken["2"]["class_type"] = "NoSuchNode"
    done = machine.call("submit", graph_file(machine, broken), "--watch", "--json")
    assert done.returncode == 1
    answer = json.loads(done.stdout)
    assert answer["status"] == "failed"
    assert "NoSuchNode" in answer["error"]


def test_the_pages_say_what_they_should(machine: Outside) -> None:
    status, health = page(machine, "/health")
    assert (status, health["healthy"]) == (200, True)
    assert set(health["services"]) == {
        "health-server",
        "valkey",
        "simulation-gpu0",
        "redis-worker-simulation-0",
        "status-aggregator",
    }
    assert page(machine, "/ready")[0] == 200
    assert page(machine, "/live")[0] == 200
    status, report = page(machine, "/status")
    assert (status, report["state"]) == (200, "ready")
    assert [check["ok"] for check in report["checks"]].count(False) == 0
    status, metrics = page(machine, "/metrics")
    assert status == 200
    assert 'machine_state{state="ready"} 1.0' in metrics


def test_pages_that_change_or_show_logs_want_the_token(machine: Outside) -> None:
    for method, path in (
        ("POST", "/restart/machine"),
        ("POST", "/restart/service?service=simulation-gpu0"),
        ("GET", "/pm2/logs?service=simulation-gpu0"),
    ):
        assert page(machine, path, method=method)[0] == 401
        assert page(machine, path, "wrong", method)[0] == 401
    assert page(machine, "/pm2/logs?service=simulation-gpu0", TOKEN)[0] == 200


def test_ps_logs_and_restart(machine: Outside) -> None:
    listed = json.loads(machine.call("ps", "--json").stdout)
    names = [process["name"] for process in listed]
    assert names == ["health-server", "valkey", "simulation-gpu0", "redis-worker-simulation-0"]
    own = next(process for process in listed if process["name"] == "health-server")
    assert machine.child is not None
    assert own["pid"] == machine.child.pid
    before = next(p["pid"] for p in listed if p["name"] == "simulation-gpu0")
    done = machine.call("restart", "simulation-gpu0")
    assert done.returncode == 0, done.stderr
    machine.until_process("simulation-gpu0", ready=True)
    listed = json.loads(machine.call("ps", "--json").stdout)
    assert next(p["pid"] for p in listed if p["name"] == "simulation-gpu0") != before
    assert machine.call("logs", "simulation-gpu0").returncode == 0
    unknown = machine.call("restart", "nonsense")
    assert unknown.returncode != 0
    assert "simulation-gpu0" in unknown.stderr
    for words in (("stop",), ("restart",), ("signal", "HUP")):
        itself = machine.call(words[0], "health-server", *words[1:])
        assert itself.returncode == ExitCode.CONFIGURATION
        assert "health-server is the machine itself [process-ours]" in itself.stderr


def test_a_crashed_service_comes_back_and_only_its_worker_pauses(machine: Outside) -> None:
    service = next(p for p in machine.running() if "simulation" in " ".join(p.cmdline()))
    worker = next(p for p in machine.running() if "redis-worker" in " ".join(p.cmdline()))
    service.kill()
    machine.until_process("simulation-gpu0", ready=False)
    machine.until_process("simulation-gpu0", ready=True)
    assert psutil.pid_exists(worker.pid)
    done = machine.call("submit", graph_file(machine, GRAPH), "--watch")
    assert done.returncode == 0, done.stderr


def until_in_progress(machine: Outside, job: str) -> None:
    """Return when the queue has heard that a job began."""
    end = time.monotonic() + PATIENCE
    while json.loads(machine.call("jobs", "show", job, "--json").stdout)["status"] != "in_progress":
        assert time.monotonic() < end, "it never began, for all that the queue has heard"


def test_a_killed_worker_comes_back_and_its_job_is_done(machine: Outside) -> None:
    """A job whose worker is killed is handed back by whoever saw the death, at once."""
    slow = json.loads(json.dumps(GRAPH))
    slow["2"] = {
        "class_type": "SimulateSteps",
        "inputs": {"image": ["1", 0], "steps": 10, "seconds": 0.5, "nonce": 1},
    }
    submitted = machine.call("submit", graph_file(machine, slow))
    job = submitted.stdout.strip()
    machine.until("job_started", job_id=job)
    until_in_progress(machine, job)
    worker = next(p for p in machine.running() if "redis-worker" in " ".join(p.cmdline()))
    worker.kill()
    machine.until("job_started", job_id=job)
    machine.until("job_finished", job_id=job, outcome="completed")
    shown = json.loads(machine.call("jobs", "show", job, "--json").stdout)
    assert shown["status"] == "completed"
    (run,) = shown["history"]
    assert (run["event"], run["error"]) == ("crash", "the process of its worker ended")


def test_drain_takes_no_more_and_undrain_does(machine: Outside) -> None:
    assert machine.call("drain").returncode == 0
    machine.until("condition_changed", condition="draining", holds=True)
    assert page(machine, "/ready")[0] == 503
    job = machine.call("submit", graph_file(machine, GRAPH)).stdout.strip()
    assert machine.call("undrain").returncode == 0
    machine.until("job_finished", job_id=job, outcome="completed")
    assert page(machine, "/ready")[0] == 200


def test_a_machine_is_drained_by_redis_and_undrained_here(machine: Outside) -> None:
    """The queue gives it nothing at once; that it is draining shows when it next looks."""
    done = machine.call("drain", "--machine", machine.id)
    assert "told 1 worker of it" in done.stdout
    job = machine.call("submit", graph_file(machine, GRAPH)).stdout.strip()
    machine.until("condition_changed", condition="draining", holds=True)
    assert page(machine, "/ready")[0] == 503
    assert f"its machine {machine.id} is drained" in machine.call("jobs", "why", job).stdout
    assert machine.call("undrain").returncode == 0
    machine.until("job_finished", job_id=job, outcome="completed")
    assert page(machine, "/ready")[0] == 200


def test_stop_from_the_command_line(machine: Outside) -> None:
    done = machine.call("stop")
    assert done.returncode == 0, done.stderr
    assert machine.wait() == 0
    after = machine.call("status")
    assert after.returncode != 0
    assert "machine-not-running" in after.stderr


def test_a_second_orchestrator_of_the_same_machine_is_refused(machine: Outside) -> None:
    other = machine.call("boot")
    assert other.returncode == 2
    assert "machine-already-running" in other.stderr


def test_bad_configuration_shows_every_problem_and_ends_with_2(
    outside: Callable[..., Outside],
) -> None:
    machine = outside(MACHINE_HEALTH_PORT="no-port", GPU_MODE="perhaps")
    done = machine.call("boot")
    assert done.returncode == 2
    assert "MACHINE_HEALTH_PORT" in done.stderr
    assert "GPU_MODE" in done.stderr


def test_a_real_service_without_a_queue_is_an_error_with_a_remedy(
    outside: Callable[..., Outside],
) -> None:
    machine = outside(WORKERS="comfyui:1", GPU_MODE="mock").start()
    assert machine.wait() == 2
    failed = next(event for event in machine.events if event["kind"] == "machine_failed")
    assert failed["error"]["code"] == "no-queue"
    assert "export REDIS=embedded" in json.dumps(failed["error"]["remedies"])


def test_a_failed_boot_is_retried_then_ends_with_3(outside: Callable[..., Outside]) -> None:
    """Redis is away: the boot is tried again as often as the settings say."""
    machine = outside(
        HUB_REDIS_URL="redis://127.0.0.1:1/0",
        MACHINE_BOOT_ATTEMPTS="2",
        MACHINE_BOOT_BACKOFF="0.05",
    ).start()
    assert machine.wait() == 3
    failures = [event for event in machine.events if event["kind"] == "machine_failed"]
    assert [f["error"]["code"] for f in failures] == ["redis-unreachable"] * 2
    assert machine.running() == []


def test_on_failed_stay_keeps_the_pages_up(outside: Callable[..., Outside]) -> None:
    machine = outside(HUB_REDIS_URL="redis://127.0.0.1:1/0", ON_FAILED="stay").start()
    machine.until("machine_failed", retry_in=None)
    status, report = page(machine, "/status")
    assert status == 200
    assert report["failure"]["code"] == "redis-unreachable"
    assert page(machine, "/ready")[0] == 503
    assert page(machine, "/live")[0] == 200
    machine.signal(signal.SIGTERM)
    assert machine.wait() == 3


@pytest.mark.skipif(sys.platform != "linux", reason="the harness is a subreaper")
def test_init_respawns_a_killed_orchestrator_which_adopts_what_runs(
    outside: Callable[..., Outside],
) -> None:
    machine = outside(MACHINE_TEE_LOGS="false", LOG_FORMAT="text").start("--init")
    assert machine.child is not None

    def orchestrator() -> psutil.Process:
        return next(p for p in machine.running() if p.cmdline()[-1] == "boot")

    machine.until_status("ready")
    first = orchestrator()
    others = {p.pid for p in machine.running()} - {first.pid}
    first.kill()
    first.wait(PATIENCE)
    machine.until_status("ready", not_pid=first.pid)
    second = orchestrator()
    assert second.pid != first.pid
    assert others <= {p.pid for p in machine.running()}
    machine.signal(signal.SIGTERM)
    assert machine.wait() == 0, machine.said()
    machine.reap()
    assert machine.running() == []


def test_the_pictures_of_ten_jobs_are_ten(machine: Outside) -> None:
    out = machine.folder / "many"
    done = machine.call(
        "submit", graph_file(machine, GRAPH), "--count", "10", "--watch", "--out", str(out)
    )
    assert done.returncode == 0, done.stderr
    assert len(os.listdir(out)) == 10  # noqa: PTH208 - a count


def test_a_service_that_is_silent_for_ever_is_restarted(outside: Callable[..., Outside]) -> None:
    """A node may end the service's working thread; its pages answer on, and nothing is done."""
    machine = outside(SIMULATION_HUNG_AFTER="1").start()
    machine.until("machine_ready")
    deadly = json.loads(json.dumps(GRAPH))
    deadly["2"] = {
        "class_type": "SimulateRaise",
        "inputs": {"image": ["1", 0], "kind": "SystemExit", "message": "gone"},
    }
    killer = machine.call("submit", graph_file(machine, deadly)).stdout.strip()
    # A job that did this three times is not tried again, and another one is done.
    machine.until("job_finished", job_id=killer, outcome="failed")
    outcomes = [e["outcome"] for e in machine.events if e["kind"] == "job_finished"]
    assert outcomes == ["released", "released", "failed"]
    changes = [e["process"] for e in machine.events if e["kind"] == "process_changed"]
    pids = {p["pid"] for p in changes if p["name"] == "simulation-gpu0" and p["ready"]}
    assert len(pids) >= 3
    shown = json.loads(machine.call("jobs", "show", killer, "--json").stdout)
    assert shown["status"] == "failed"
    done = machine.call("submit", graph_file(machine, GRAPH), "--watch")
    assert done.returncode == 0, done.stderr


def test_a_service_that_works_without_a_word_is_left_alone(
    outside: Callable[..., Outside],
) -> None:
    machine = outside(SIMULATION_HUNG_AFTER="1").start()
    machine.until("machine_ready")
    silent = json.loads(json.dumps(GRAPH))
    silent["2"] = {"class_type": "SimulateEffort", "inputs": {"image": ["1", 0], "seconds": 5}}
    job = machine.call("submit", graph_file(machine, silent)).stdout.strip()
    machine.until("job_finished", job_id=job, outcome="completed")
    processes = json.loads(machine.call("ps", "--json").stdout)
    assert {process["restarts"] for process in processes} == {0}
