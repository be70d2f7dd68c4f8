"""Node packs that fail to load: what the machine says of them, everywhere, and which jobs it takes.

The simulated service imports real packs from a folder, and logs of them what ComfyUI logs.
"""

from __future__ import annotations

import json
import signal
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.outside import Outside
from tests.support.patience import PATIENCE
from tests.support.ports import free_port

NODE = 'class N:\n    INPUT_TYPES = classmethod(lambda cls: {"required": {}})\n'
GOOD = f'import time\ntime.sleep(0.2)\n{NODE}NODE_CLASS_MAPPINGS = {{"PackGood": N}}\n'
BROKEN = "import not_there.deep\n"
MENDED = f'{NODE}NODE_CLASS_MAPPINGS = {{"PackBroken": N}}\n'
RAISES = 'raise RuntimeError("no card of this kind")\n'
SCRIPTS = 'WEB_DIRECTORY = "./js"\n'
MISSING = "ModuleNotFoundError: No module named 'not_there'"
GRAPH = {
    "1": {
        "class_type": "EmptyImage",
        "inputs": {"width": 8, "height": 8, "batch_size": 1, "color": 1},
    },
    "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "p"}},
}


def write(folder: Path, **packs: str) -> Path:
    for name, text in packs.items():
        (folder / name / "js").mkdir(parents=True, exist_ok=True)
        (folder / name / "__init__.py").write_text(text)
        (folder / name / "js" / "a.js").write_text("//")
    return folder


def status(machine: Outside) -> Any:
    return json.loads(machine.call("status", "--json").stdout)


def page(machine: Outside, path: str) -> str:
    with urllib.request.urlopen(status(machine)["health_url"] + path, timeout=PATIENCE) as answer:  # noqa: S310 - loopback
        text: str = answer.read().decode()
        return text


def degraded(report: Any) -> str:
    return next((c["reason"] for c in report["conditions"] if c["kind"] == "degraded"), "")


def submit(machine: Outside, *words: str) -> Any:
    path = machine.folder / "graph.json"
    path.write_text(json.dumps(GRAPH))
    done = machine.call("submit", str(path), "--service", "simulation", "--json", *words)
    assert done.stdout, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def machine(outside: Callable[..., Outside], tmp_path: Path) -> Outside:
    packs = write(tmp_path, good=GOOD, broken=BROKEN, raises=RAISES, scripts=SCRIPTS)
    (tmp_path / "no_pack").mkdir()
    return outside(SIMULATION_CUSTOM_NODES=str(packs), LOG_LEVEL="info", LOG_FORMAT="text")


def test_every_surface_names_what_did_not_load(machine: Outside) -> None:
    machine.start()
    machine.until("machine_ready")
    told = next(event for event in machine.events if event["kind"] == "packs_loaded")
    words = degraded(report := status(machine))
    instance = told["instance"]
    assert words == (
        f"2 node packs did not load on {instance}: broken ({MISSING}); "
        "raises (RuntimeError: no card of this kind)"
    )
    by_name = {pack["name"]: pack for pack in told["packs"]}
    assert by_name["broken"]["missing"] == "not_there"
    assert {name: pack["state"] for name, pack in by_name.items()} == {
        "broken": "failed", "good": "loaded", "no_pack": "failed", "raises": "failed",
        "scripts": "loaded", "simulation": "loaded",
    }  # fmt: skip
    assert (took := by_name["good"]["seconds"]) >= 0.2
    (loaded,) = report["loaded"]
    started = next(p["started"] for p in report["processes"] if p["name"] == instance)
    assert loaded.pop("started") == started
    assert loaded == {"instance": instance, "packs": told["packs"], "complete": True}
    before = [event["kind"] for event in machine.events].index
    assert before("condition_changed") < before("machine_ready"), "known when it is ready"

    health = json.loads(page(machine, "/health"))
    assert (health["healthy"], health["degraded"]) == (True, words)
    metrics = page(machine, "/metrics")
    assert f'machine_pack_loaded{{instance="{instance}",pack="broken"}} 0.0' in metrics
    assert f'machine_pack_loaded{{instance="{instance}",pack="good"}} 1.0' in metrics
    assert f'machine_pack_import_seconds{{instance="{instance}",pack="good"}} {took}' in metrics
    assert 'machine_condition{condition="degraded"} 1.0' in metrics
    assert '<table id="packs">' in page(machine, "/")
    shown = " ".join(machine.call("status").stdout.split())
    assert f"degraded: {words}" in shown
    assert f"failed broken: {MISSING}" in shown
    assert "is ready in" in machine.said()
    assert f", degraded: {words}" in machine.said()
    assert "import of good" in machine.said()


def test_jobs_that_need_a_failed_pack_are_left_for_others(machine: Outside) -> None:
    machine.start()
    machine.until("machine_ready")
    needing = (
        {"custom_nodes": ["good", "broken"]},
        {"node_packs": ["raises"]},
        {"node_classes": ["PackGood", "PackBroken"]},
        {"negative_requirements": {"node_packs": ["good"]}},
    )
    left = [submit(machine, "--requirements", json.dumps(need))["id"] for need in needing]
    wanted = {"node_packs": ["good", "scripts"], "node_classes": ["PackGood", "KSampler"]}
    done = submit(machine, "--requirements", json.dumps(wanted), "--watch")
    assert done["status"] == "completed"
    # They came first, and are still there.
    for job in left:
        shown = json.loads(machine.call("jobs", "show", job, "--json").stdout)
        assert shown["status"] in {"pending", "unworkable"}
        assert not shown["worker_id"]


def test_requirements_that_are_no_object_are_refused(machine: Outside) -> None:
    (machine.folder / "graph.json").write_text(json.dumps(GRAPH))
    for text in ("{", "[]"):
        done = machine.call("submit", str(machine.folder / "graph.json"), "--requirements", text)
        assert (done.returncode, "--requirements" in done.stderr) == (2, True)


def test_the_condition_follows_what_a_restart_loads(machine: Outside, tmp_path: Path) -> None:
    machine.start()
    machine.until("machine_ready")
    instance = status(machine)["loaded"][0]["instance"]
    waiting = submit(machine, "--requirements", '{"node_packs": ["broken"]}')["id"]

    write(tmp_path, broken=MENDED, raises=MENDED.replace("PackBroken", "Other"))
    machine.call("restart", instance)
    assert machine.until("condition_changed", condition="degraded")["holds"] is False
    machine.until("job_finished", job_id=waiting, outcome="completed")
    assert not status(machine)["conditions"]

    write(tmp_path, good=BROKEN)
    machine.call("restart", instance)
    changed = machine.until("condition_changed", condition="degraded")
    assert changed["reason"] == f"1 node pack did not load on {instance}: good ({MISSING})"


def test_two_instances_differ_and_are_named(
    outside: Callable[..., Outside], tmp_path: Path
) -> None:
    base = free_port(count=2)
    picky = f'import sys\nif "{base + 1}" in sys.argv:\n    import not_there\n{MENDED}'
    packs = write(tmp_path, picky=picky, raises=RAISES)
    machine = outside(
        WORKERS="simulation:2", SIMULATION_CUSTOM_NODES=str(packs), SIMULATION_BASE_PORT=str(base)
    ).start()
    machine.until("machine_ready")
    report = status(machine)
    first, second = (one["instance"] for one in report["loaded"])
    raises = "raises (RuntimeError: no card of this kind)"
    assert degraded(report) == (
        f"1 node pack did not load on {first}: {raises}; "
        f"2 node packs did not load on {second}: picky ({MISSING}); {raises}"
    )
    job = submit(machine, "--requirements", '{"node_packs": ["picky"]}', "--watch")
    assert job["worker_id"].endswith("-0")


@pytest.mark.parametrize("workers", ["live", "die"])
def test_an_orchestrator_that_comes_back_knows_it_still(
    machine: Outside, tmp_path: Path, workers: str
) -> None:
    machine.start()
    machine.until("machine_ready")
    before = status(machine)
    machine.signal(signal.SIGKILL)
    machine.wait()
    if workers == "die":  # then nobody lives who has seen it: the log is read again
        pids = {one["pid"] for one in before["processes"] if one["role"] == "worker"}
        for process in machine.running():
            if process.pid in pids:
                process.kill()
                process.wait(PATIENCE)
    # What a pack would say today counts for the next start, not for the process that runs.
    write(tmp_path, broken=MENDED)
    machine.start()
    machine.until("machine_ready")
    after = status(machine)
    adopted = {process["role"] for process in after["processes"] if process["adopted"]}
    assert adopted - {"support"} == ({"service", "worker"} if workers == "live" else {"service"})
    assert after["loaded"] == before["loaded"]
    assert degraded(after) == degraded(before)


def test_a_machine_whose_packs_all_load_is_not_degraded(
    outside: Callable[..., Outside], tmp_path: Path
) -> None:
    machine = outside(SIMULATION_CUSTOM_NODES=str(write(tmp_path, good=GOOD))).start()
    machine.until("machine_ready")
    report = status(machine)
    assert not report["conditions"]
    assert [pack["name"] for pack in report["loaded"][0]["packs"]] == ["good", "simulation"]
