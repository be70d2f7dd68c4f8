"""A whole machine that installs its service: two at once, a kill in the middle, a failed pack."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import threading
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from tests.support.comfyui_bed import bundled_pip, make_bed
from tests.support.git_server import git_server
from tests.support.installing_machine import MAIN, machine_of
from tests.support.outside import Outside
from tests.support.patience import PATIENCE

LOADING = 'import os\nos.environ["SIMULATION_CUSTOM_NODES"] = "custom_nodes"\n' + MAIN
"""It imports its packs, too."""


def finished(machine: Outside) -> dict[str, bool]:
    """Steps of the installation that ended, and whether there was nothing to do."""
    return {
        event["step"]: event["skipped"]
        for event in machine.events
        if event["kind"] == "step_finished" and event["state"] in ("installing", "custom_nodes")
    }


def page(machine: Outside, path: str) -> str:
    url = json.loads(machine.call("status", "--json").stdout)["health_url"]
    with urllib.request.urlopen(url + path, timeout=PATIENCE) as answer:  # noqa: S310 - our own page
        return str(answer.read().decode())


def test_killed_while_it_installs_a_machine_boots_to_the_end(
    tmp_path: Path, outside: Callable[..., Outside]
) -> None:
    bed = make_bed(tmp_path, main=MAIN)
    hang = tmp_path / "hang"
    os.mkfifo(hang)
    waits = f"if mkdir {tmp_path}/told; then echo $$ > {hang}; exec sleep 600; fi; echo once > made"
    bed.listed(
        {
            "name": "Good",
            "url": bed.pack("good", requirements__txt="small\n"),
            "requirements": True,
            "custom_script": waits,
        },
        {"name": "Dead", "url": str(tmp_path / "nowhere")},
    )
    machine = machine_of(bed, outside)
    machine.start()
    left = int(hang.read_text())  # this waits until the script is there
    machine.signal(signal.SIGKILL)
    machine.wait()
    before = finished(machine)
    assert {"clone", "torch", "requirements", "verify"} <= set(before)
    journal = machine.folder / "r" / "install-comfyui.jsonl"
    with journal.open("ab") as file:
        file.write(b'{"event": "spa')

    machine.start().until("machine_ready")
    again = finished(machine)
    assert again.pop("lock") is False, "the dead one is looked for again"
    assert all(again[step] for step in before if step not in {"lock", "preflight"}), again
    assert again["node Good script"] is False
    machine.reap()
    assert not psutil.pid_exists(left)
    assert (machine.folder / "w/ComfyUI/custom_nodes/Good/made").read_text() == "once\n"
    check_named(machine, "Dead")
    machine.signal(signal.SIGTERM)
    assert machine.wait() == 0


def test_what_was_installed_beforehand_a_boot_finds_done(
    tmp_path: Path, outside: Callable[..., Outside]
) -> None:
    """As for an image: on a host without the machine's GPUs, with no queue."""
    bed = make_bed(tmp_path, main=MAIN)
    bed.listed(
        {
            "name": "Good",
            "url": bed.pack("good", requirements__txt="small\n"),
            "requirements": True,
        },
        {"name": "Dead", "url": str(tmp_path / "nowhere")},
    )
    machine = machine_of(bed, outside)
    elsewhere = {
        "REDIS": "hub",
        "HUB_REDIS_URL": "redis://127.0.0.1:1",
        "MOCK_GPU_NUM": "0",
        "MACHINE_RUNTIME_DIR": str(tmp_path / "r"),
    }
    made = machine.call("install", "--json", **elsewhere)
    assert made.returncode == 0, made.stderr
    told = json.loads(made.stdout)
    assert told["services"] == ["comfyui"]
    assert told["done"] > 0
    assert list(told["failures"]) == ["Dead"]
    assert "left out: Dead" in made.stderr
    assert machine.running() == []
    again = machine.call("install", "--strict", **elsewhere)
    assert (again.returncode, "all was there" in again.stdout) == (3, True)

    machine.start().until("machine_ready")
    skipped = finished(machine)
    assert skipped.pop("lock") is False, "the dead one is looked for again"
    assert skipped.pop("preflight") is False, "and what it will need"
    assert len(skipped) >= 5
    assert all(skipped.values()), skipped
    check_named(machine, "Dead")
    refused = machine.call("install")
    assert refused.returncode == 2
    assert "machine-already-running" in refused.stderr


def test_a_pack_that_calls_pip_while_it_is_imported_moves_nothing(
    tmp_path: Path, outside: Callable[..., Outside]
) -> None:
    words = f"-m pip install --upgrade torch --no-index --find-links {tmp_path}/wheels"
    calls = f"""
import subprocess, sys
if sys.argv[1:] != ["--help"]:
    argv = [sys.executable, *{words.split()!r}]
    said = subprocess.run(argv, capture_output=True, text=True)
    open({str(tmp_path / "said")!r}, "w").write(said.stdout + said.stderr)
"""
    bed = make_bed(tmp_path, main=calls + MAIN)
    bundled_pip(bed.wheels)
    bed.listed()
    machine = machine_of(bed, outside)
    machine.start().until("machine_ready")
    assert "Requirement already satisfied: torch" in (tmp_path / "said").read_text()
    (site,) = (machine.folder / "w/ComfyUI/venv/lib").glob("python*/site-packages")
    assert [path.name for path in site.glob("torch-*")] == ["torch-2.0.dist-info"]
    machine.signal(signal.SIGTERM)
    assert machine.wait() == 0


def test_what_is_changed_while_packs_are_imported_is_told_at_once_and_put_back_later(
    tmp_path: Path, outside: Callable[..., Outside]
) -> None:
    changes = f"""
import pathlib, shutil, sys
once = pathlib.Path({str(tmp_path / "once")!r})
if sys.argv[1:] != ["--help"] and not once.exists():
    once.touch()
    (site,) = pathlib.Path(sys.prefix).glob("lib/python*/site-packages")
    shutil.rmtree(site / "small-1.0.dist-info")
"""
    bed = make_bed(tmp_path, main=changes + LOADING)
    bed.listed()
    machine = machine_of(bed, outside)
    for told in (True, False):
        machine.start().until("machine_ready")
        said = json.loads(machine.call("status", "--json").stdout)["conditions"]
        assert ("small 1.0, now gone" in json.dumps(said)) is told, said
        machine.signal(signal.SIGTERM)
        assert machine.wait() == 0


def test_too_few_packs_are_no_machine(tmp_path: Path, outside: Callable[..., Outside]) -> None:
    bed = make_bed(tmp_path, main=MAIN)
    dead = [{"name": f"Dead{number}", "url": str(tmp_path / "nowhere")} for number in range(2)]
    bed.listed({"name": "Good", "url": bed.pack("good", __init____py="")}, *dead)
    machine = machine_of(bed, outside, MACHINE_BOOT_ATTEMPTS="1")
    made = machine.call("install")
    assert made.returncode == 3
    assert "2 of 3 node packs of comfyui are missing, 1 may be" in made.stderr
    assert "packs-missing" in made.stderr
    assert "Mend Dead0 or take it out" in made.stderr
    allowed = machine.call("install", MACHINE_PACK_FLOOR="0.3")
    assert allowed.returncode == 0, allowed.stderr


def test_a_machine_is_ready_without_a_pack_that_takes_too_long(
    tmp_path: Path, outside: Callable[..., Outside]
) -> None:
    bed = make_bed(tmp_path, main=MAIN)
    released = threading.Event()

    def stall(_path: str, _body: bytes) -> None:
        released.wait()

    with contextlib.ExitStack() as stack:
        host = stack.enter_context(git_server(tmp_path, fault=stall))
        stack.callback(released.set)
        good = {"name": "Good", "url": bed.pack("good", __init____py=""), "required": True}
        bed.listed(good, {"name": "Slow", "url": f"http://{host}/slow"})
        more = {"MACHINE_PACKS_TIMEOUT": "1", "COMFYUI_LOCK": "off"}
        machine = machine_of(bed, outside, **more)
        machine.start().until("machine_ready")
        check_named(machine, "Slow")
        machine.signal(signal.SIGTERM)
        assert machine.wait() == 0


def test_a_required_pack_that_is_not_imported_is_no_machine(
    tmp_path: Path, outside: Callable[..., Outside]
) -> None:
    bed = make_bed(tmp_path, main=LOADING)
    broken = bed.pack("broken", __init____py="import not_there\n")
    bed.listed({"name": "Broken", "url": broken, "required": True})
    machine = machine_of(bed, outside, MACHINE_BOOT_ATTEMPTS="1")
    machine.start()
    assert machine.wait() == 3
    said = machine.said()
    assert "health-check-failed" in said
    assert "lacks the required node pack Broken (" in said
    assert "No module named 'not_there'" in said
    assert "Mend Broken or take it out" in said
    bed.listed({"name": "Broken", "url": broken})
    machine.start().until("packs_timed")
    assert 'machine_pack_boot_seconds{pack="Broken",part="fetch"}' in page(machine, "/metrics")
    status: Any = json.loads(machine.call("status", "--json").stdout)
    assert any("Broken" in json.dumps(one) for one in status["conditions"])
    machine.signal(signal.SIGTERM)
    assert machine.wait() == 0


def check_named(machine: Outside, pack: str) -> None:
    """A pack that failed is named wherever somebody may look."""
    events = machine.events
    told = [one for one in events if one["kind"] == "step_progressed" and pack in one["step"]]
    assert any("failed" in one["detail"] for one in told), told
    raised = [one for one in events if one["kind"] == "condition_changed"]
    assert [one["condition"] for one in raised if pack in json.dumps(one)] == ["degraded"]
    status: Any = json.loads(machine.call("status", "--json").stdout)
    assert pack in json.dumps(status["conditions"])
    assert pack in machine.call("status").stdout
    assert pack in machine.said()  # the narration on stderr
    assert pack in page(machine, "/status")
    assert 'machine_condition{condition="degraded"} 1' in page(machine, "/metrics")


def test_two_machines_in_one_workspace_are_one_too_many(outside: Callable[..., Outside]) -> None:
    first = outside()
    first.start().until("machine_ready")
    # As another container with the same volume: its own runtime folder, id and ports.
    second = outside(WORKSPACE_PATH=first.env["WORKSPACE_PATH"])
    refused = second.call("boot")
    assert refused.returncode == 2
    assert "machine-already-running" in refused.stderr
    assert str(first.child.pid if first.child else "") in refused.stderr
    assert f"MACHINE_RUNTIME_DIR={first.env['MACHINE_RUNTIME_DIR']} machine-lifecycle status" in (
        refused.stderr
    )
    # The first one noticed nothing.
    assert json.loads(first.call("status", "--json").stdout)["state"] == "ready"
    # A kill leaves no lock behind.
    first.signal(signal.SIGKILL)
    first.wait()
    for process in first.running():
        process.kill()
    shutil.rmtree(first.env["MACHINE_RUNTIME_DIR"])
    second.start().until("machine_ready")
    second.signal(signal.SIGTERM)
    assert second.wait() == 0
