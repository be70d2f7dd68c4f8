"""A machine that installs, starts and drives a real ComfyUI by itself, on the CPU.

``COMFYUI_REPO_URL`` says where it is cloned from, and ``COMFYUI_PYTHON`` which environment, with
torch in it, runs it: nothing is downloaded then. ``COMFYUI_BRANCH``, ``COMFYUI_COMMIT``,
``COMFY_ARGS`` and ``GIT_CONFIG_*`` are handed on where they are set.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.real.conftest import INVERTED, Driven, variable
from tests.support.outside import Outside

pytestmark = [pytest.mark.real, pytest.mark.timeout(400)]

HANDED_ON = ("COMFYUI_BRANCH", "COMFYUI_COMMIT", "COMFY_ARGS", "HF_HUB_OFFLINE", "PIP_CONSTRAINT")
START = 150.0
"""Seconds for the start of two ComfyUIs beside each other; one takes 8 on an idle machine."""


def free_base() -> int:
    """The first of four free ports."""
    for base in range(21_000 + os.getpid() % 900 * 10, 32_000, 10):
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            for port in range(base, base + 4):
                stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
            return base
    raise RuntimeError("no free ports")


@pytest.fixture
def local(outside: Callable[..., Outside]) -> Callable[..., Driven]:
    needed = {name: variable(name) for name in ("COMFYUI_REPO_URL", "COMFYUI_PYTHON")}
    passed = {
        name: value
        for name, value in os.environ.items()  # noqa: TID251 - see the module
        if name in HANDED_ON or name.startswith("GIT_CONFIG_")
    }

    def make(**settings: str) -> Driven:
        machine = outside(
            **{
                **needed,
                **passed,
                "WORKERS": "comfyui:1",
                "GPU_MODE": "mock",
                "MOCK_GPU_NUM": "1",
                "REDIS": "embedded",
                "COMFYUI_BASE_PORT": str(free_base()),
                **settings,
            }
        )
        machine.patience = START
        return Driven(machine)

    return make


def boot(driven: Driven) -> list[dict[str, Any]]:
    """Boot it; the events until it was ready."""
    driven.machine.start().until("machine_ready")
    return driven.machine.events


def installed(events: list[dict[str, Any]]) -> dict[str, bool]:
    """Steps of the installation, and whether there was nothing to do."""
    states = ("installing", "custom_nodes")
    return {
        event["step"]: event["skipped"]
        for event in events
        if event["kind"] == "step_finished" and event["state"] in states
    }


def page(driven: Driven, path: str) -> Any:
    base = json.loads(driven.machine.call("status", "--json").stdout)["health_url"]
    with urllib.request.urlopen(base + path, timeout=10) as answer:  # noqa: S310 - loopback
        return json.loads(answer.read())


def test_a_life_from_an_empty_workspace_to_nothing_and_again(
    local: Callable[..., Driven], graphs: Any, first_picture: Any
) -> None:
    driven = local()
    done = installed(boot(driven))
    assert not any(done[step] for step in ("clone", "requirements", "verify")), done
    answer = driven.submit(graphs.picture(), "--watch")
    assert answer["status"] == "completed", answer
    assert first_picture(answer) == ((64, 48), INVERTED)
    refused = driven.submit(graphs.invalid(), "--watch")
    assert (refused["status"], refused["retry_count"]) == ("failed", 0)
    assert refused["took"] < 5
    names = ("health-server", "valkey", "comfyui-gpu0", "redis-worker-comfyui-0")
    assert tuple(driven.processes()) == names
    health = page(driven, "/health")
    assert health["healthy"] is True
    assert health["services"]["comfyui-gpu0"]["healthy"] is True
    report = json.loads(driven.machine.call("status", "--json").stdout)
    assert report["state"] == "ready"
    assert not report["conditions"]

    driven.machine.signal(signal.SIGTERM)
    assert driven.machine.wait() == 0
    driven.machine.reap()
    assert driven.machine.running() == []

    again = installed(boot(driven))
    assert again, "a second boot has the same steps"
    assert all(again.values()), again
    assert driven.submit(graphs.picture(0x102030), "--watch")["status"] == "completed"


def test_two_instances_and_the_death_of_one(local: Callable[..., Driven], graphs: Any) -> None:
    driven = local(MOCK_GPU_NUM="2")
    boot(driven)
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
    deadline = time.monotonic() + START
    while not (after := driven.processes())[died]["ready"]:
        assert time.monotonic() < deadline, after[died]
    assert after[died]["pid"] != before[died]["pid"]
    assert after[died]["restarts"] == 1
    for name in (other, "redis-worker-comfyui-0", "redis-worker-comfyui-1", "valkey"):
        assert (after[name]["pid"], after[name]["restarts"]) == (before[name]["pid"], 0), name
    answers = driven.submit(graphs.picture(0x445566, "after"), "--count", "40", "--watch")
    assert len({answer["worker_id"] for answer in answers}) == 2


def repository(folder: Path, **files: str) -> str:
    """A git repository with these files; its path."""
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / name.replace("__dot__", ".")).write_text(text, encoding="utf-8")
    login = ("-c", "user.name=Somebody", "-c", "user.email=somebody@example.org")
    for words in (("init", "-q"), ("add", "."), (*login, "commit", "-qm", "One pack")):
        subprocess.run(["git", *words], cwd=folder, check=True)  # noqa: S607 - as a person would
    return str(folder)


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
    nodes = tmp_path / "config_nodes.json"
    good = repository(tmp_path / "halve", __init____dot__py=PACK)
    packs = [
        {"name": "halve", "url": f"git clone {good}", "requirements": True, "env": {"A": "${B}"}},
        {"name": "gone", "url": str(tmp_path / "not-there"), "requirements": True},
    ]
    nodes.write_text(json.dumps({"custom_nodes": packs}), encoding="utf-8")
    driven = local(CONFIG_NODES_PATH=str(nodes), B="a value")
    boot(driven)
    env = next(driven.machine.folder.rglob("custom_nodes/halve/.env"))
    assert env.read_text(encoding="utf-8") == "A=a value\n"
    assert env.stat().st_mode & 0o077 == 0
    graph = graphs.picture(0xFFFFFF)
    graph["2"] = {"class_type": "RealHalve", "inputs": {"image": ["1", 0]}}
    answer = driven.submit(graph, "--watch")
    assert answer["status"] == "completed", answer
    assert first_picture(answer) == ((64, 48), (127, 127, 127))
    report = json.loads(driven.machine.call("status", "--json").stdout)
    assert "gone" in json.dumps(report["conditions"])
