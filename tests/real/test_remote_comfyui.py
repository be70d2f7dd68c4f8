"""A machine in front of a real ComfyUI that somebody else started.

``COMFYUI_URL`` says where it is. The test that kills it needs to start it too: ``COMFYUI_START`` is
a program that runs one in the foreground, on the port that it is given.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.real.conftest import INVERTED, START, Driven, answers, asked, variable
from tests.support.outside import Outside
from tests.support.ports import free_port

pytestmark = [pytest.mark.real, pytest.mark.timeout(600)]


def driven(outside: Callable[..., Outside], url: str) -> Driven:
    parts = urlsplit(url)
    machine = outside(
        WORKERS="comfyui-remote:1",
        REDIS="embedded",
        WORKER_COMFYUI_REMOTE_HOST=parts.hostname or "",
        WORKER_COMFYUI_REMOTE_PORT=str(parts.port or 80),
        WORKER_COMFYUI_REMOTE_SECURE=str(parts.scheme == "https").lower(),
    )
    machine.patience = START
    machine.start().until("machine_ready")
    return Driven(machine)


@pytest.fixture
def url() -> str:
    return variable("COMFYUI_URL").rstrip("/")


@pytest.fixture
def remote(outside: Callable[..., Outside], url: str) -> Driven:
    return driven(outside, url)


def test_a_picture_comes_back_with_the_right_pixels(
    remote: Driven, graphs: Any, first_picture: Any
) -> None:
    answer = remote.submit(graphs.picture(), "--watch")
    assert answer["status"] == "completed", answer
    assert first_picture(answer) == ((64, 48), INVERTED)


def test_a_graph_that_is_refused_fails_at_once_and_says_why(remote: Driven, graphs: Any) -> None:
    answer = remote.submit(graphs.invalid(), "--watch")
    assert (answer["status"], answer["retry_count"]) == ("failed", 0)
    assert "height" in answer["error"]
    assert answer["took"] < 5


def test_a_node_that_raises_fails_and_is_named(remote: Driven, graphs: Any) -> None:
    """Out of memory may be past at the next attempt, so it is tried as often as jobs are."""
    answer = remote.submit(graphs.raising(), "--watch")
    assert answer["status"] == "failed"
    assert "node 1 (EmptyImage)" in answer["error"]
    assert answer["took"] < 20


def test_a_node_that_refuses_its_inputs_is_not_run_again(
    remote: Driven, graphs: Any, url: str
) -> None:
    with asked(f"{url}/object_info") as known:
        if "CheckRaise" not in known:
            pytest.skip("this ComfyUI has no node that raises a ValueError (CheckRaise)")
    graph = graphs.picture()
    graph["2"] = {
        "class_type": "CheckRaise",
        "inputs": {"image": ["1", 0], "kind": "ValueError", "message": "not like this"},
    }
    answer = remote.submit(graph, "--watch")
    assert (answer["status"], answer["retry_count"]) == ("failed", 0)
    assert "not like this" in answer["error"]
    assert answer["took"] < 5


def test_twenty_jobs_in_a_row(remote: Driven, graphs: Any) -> None:
    answers_ = remote.submit(graphs.picture(0x102030, "many"), "--count", "20", "--watch")
    assert [answer["status"] for answer in answers_] == ["completed"] * 20


def test_a_cancelled_job_stops_in_comfyui_too(remote: Driven, graphs: Any, url: str) -> None:
    colour = int(time.time()) % 0xFFFFFF  # one that was not made before is not cached
    job = remote.submit(graphs.slow(colour, 60))["id"]
    remote.until_running(job)
    assert remote.machine.call("jobs", "cancel", job).returncode == 0
    remote.machine.until("job_finished", job_id=job, outcome="cancelled")
    assert remote.show(job)["status"] == "cancelled"
    # It stops between two nodes.
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with asked(f"{url}/queue") as queue:
            if not queue["queue_running"] + queue["queue_pending"]:
                break
    else:
        pytest.fail(f"still there: {json.dumps(queue)[:500]}")
    assert remote.submit(graphs.picture(0x010203), "--watch")["status"] == "completed"


@pytest.fixture
def own() -> Iterator[Callable[[], tuple[subprocess.Popen[bytes], str]]]:
    """Starts a ComfyUI that may be killed, always on one port."""
    program, port = variable("COMFYUI_START"), free_port()
    url = f"http://127.0.0.1:{port}"
    started: list[subprocess.Popen[bytes]] = []

    def start() -> tuple[subprocess.Popen[bytes], str]:
        quiet = subprocess.DEVNULL
        process = subprocess.Popen([program, str(port)], stdout=quiet, stderr=quiet)
        started.append(process)
        deadline = time.monotonic() + START
        while not answers(url):
            assert process.poll() is None, f"{program} {port} ended with {process.returncode}"
            assert time.monotonic() < deadline, f"nobody answers at {url}"
        return process, url

    yield start
    for process in started:
        process.kill()
        process.wait(10)


def test_a_comfyui_that_is_killed_in_mid_job_and_comes_back(
    outside: Callable[..., Outside], own: Any, graphs: Any
) -> None:
    process, url = own()
    remote = driven(outside, url)
    job = remote.submit(graphs.slow(0x0A0B0C, 8))["id"]
    remote.until_running(job)
    os.kill(process.pid, signal.SIGKILL)
    process.wait(10)
    own()
    # The prompt is lost with the process; the job is not.
    remote.machine.until("job_finished", job_id=job, outcome="completed")
    assert remote.show(job)["status"] == "completed"
    assert remote.submit(graphs.picture(), "--watch")["status"] == "completed"
