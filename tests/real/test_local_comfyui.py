"""A machine that installs, starts and drives a real ComfyUI by itself, on the CPU.

``COMFYUI_REPO_URL`` says where it is cloned from, and ``COMFYUI_PYTHON`` which environment, with
torch in it, runs it: nothing large is downloaded then. Both may name several, with blanks between:
each test is run with each. ``COMFYUI_BRANCH``, ``COMFYUI_COMMIT``, ``COMFY_ARGS``, ``GIT_CONFIG_*``
and the variables of pip and uv are handed on where they are set.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.real.conftest import INVERTED, Driven, node_list, repository

pytestmark = [pytest.mark.real, pytest.mark.timeout(900)]


def installed(events: list[dict[str, Any]]) -> dict[str, bool]:
    """Steps of the installation, and whether there was nothing to do."""
    states = ("installing", "custom_nodes")
    return {
        event["step"]: event["skipped"]
        for event in events
        if event["kind"] == "step_finished" and event["state"] in states
    }


def test_a_life_from_an_empty_workspace_to_nothing_and_again(
    local: Callable[..., Driven], graphs: Any, first_picture: Any
) -> None:
    driven = local()
    done = installed(driven.boot())
    assert not any(done[step] for step in ("clone", "requirements", "verify")), done
    answer = driven.submit(graphs.picture(), "--watch")
    assert answer["status"] == "completed", answer
    assert first_picture(answer) == ((64, 48), INVERTED)
    refused = driven.submit(graphs.invalid(), "--watch")
    assert (refused["status"], refused["retry_count"]) == ("failed", 0)
    assert refused["took"] < 5
    names = ("health-server", "valkey", "comfyui-gpu0", "redis-worker-comfyui-0")
    assert tuple(driven.processes()) == names
    health = driven.page("/health")
    assert health["healthy"] is True
    assert health["services"]["comfyui-gpu0"]["healthy"] is True
    report = driven.status()
    assert report["state"] == "ready"
    assert not report["conditions"]

    driven.machine.signal(signal.SIGTERM)
    assert driven.machine.wait() == 0
    driven.machine.reap()
    assert driven.machine.running() == []

    again = installed(driven.boot())
    assert again, "a second boot has the same steps"
    assert all(again.values()), again
    assert driven.submit(graphs.picture(0x102030), "--watch")["status"] == "completed"


def test_two_instances_and_the_death_of_one(local: Callable[..., Driven], graphs: Any) -> None:
    driven = local(MOCK_GPU_NUM="2")
    driven.boot()
    before = driven.processes()
    first, second = (before[f"comfyui-gpu{number}"] for number in (0, 1))

    # Nothing that one writes is where the other writes.
    def folders(process: Any) -> dict[str, str]:
        argv = psutil.Process(process["pid"]).cmdline()
        names = ("--output-directory", "--temp-directory", "--user-directory")
        return {name: argv[argv.index(name) + 1] for name in names}

    assert not set(folders(first).values()) & set(folders(second).values())
    assert all(Path(folder).is_dir() for folder in folders(first).values())

    # Both do jobs, and none is lost.
    answers = driven.submit(graphs.picture(0x112233, "many"), "--count", "40", "--watch")
    assert [answer["status"] for answer in answers] == ["completed"] * 40
    assert len({answer["worker_id"] for answer in answers}) == 2

    # One dies in mid-job: it alone comes back, and its job is done, by whoever is free first.
    job = driven.submit(graphs.slow(0x0A0B0D, 8))["id"]
    driven.until_running(job)
    index = int(driven.show(job)["worker_id"].rpartition("-")[2])
    died, other = f"comfyui-gpu{index}", f"comfyui-gpu{1 - index}"
    killed = time.monotonic()
    os.kill(before[died]["pid"], signal.SIGKILL)
    driven.machine.until("job_finished", job_id=job, outcome="released")
    assert time.monotonic() - killed < 5
    driven.machine.until("job_finished", job_id=job, outcome="completed")
    assert driven.show(job)["worker_id"].endswith(f"-{1 - index}")
    after = driven.until_ready(died)
    assert after[died]["pid"] != before[died]["pid"]
    assert after[died]["restarts"] == 1
    for name in (other, "redis-worker-comfyui-0", "redis-worker-comfyui-1", "valkey"):
        assert (after[name]["pid"], after[name]["restarts"]) == (before[name]["pid"], 0), name
    answers = driven.submit(graphs.picture(0x445566, "after"), "--count", "40", "--watch")
    assert len({answer["worker_id"] for answer in answers}) == 2


PACK = """
class Halve:
    CATEGORY, FUNCTION, RETURN_TYPES = "real", "run", ("IMAGE",)
    INPUT_TYPES = classmethod(lambda cls: {"required": {"image": ("IMAGE",)}})
    def run(self, image):
        return (image / 2,)
NODE_CLASS_MAPPINGS = {"RealHalve": Halve}
"""


def test_node_packs_are_brought_and_a_missing_one_is_named(
    local: Callable[..., Driven], graphs: Any, first_picture: Any, tmp_path: Path
) -> None:
    good = repository(tmp_path / "halve", __init____dot__py=PACK)
    packs = [
        {"name": "halve", "url": f"git clone {good}", "requirements": True, "env": {"A": "${B}"}},
        {"name": "gone", "url": str(tmp_path / "not-there"), "requirements": True},
    ]
    driven = local(CONFIG_NODES_PATH=node_list(tmp_path, *packs), B="a value")
    driven.boot()
    env = next(driven.machine.folder.rglob("custom_nodes/halve/.env"))
    assert env.read_text(encoding="utf-8") == "A=a value\n"
    assert env.stat().st_mode & 0o077 == 0
    graph = graphs.picture(0xFFFFFF)
    graph["2"] = {"class_type": "RealHalve", "inputs": {"image": ["1", 0]}}
    answer = driven.submit(graph, "--watch")
    assert answer["status"] == "completed", answer
    assert first_picture(answer) == ((64, 48), (127, 127, 127))
    report = driven.status()
    assert "gone" in json.dumps(report["conditions"])
