"""A machine whose service runs elsewhere: nothing is installed or started here but its worker."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.outside import Outside
from tests.support.patience import PATIENCE
from tests.support.ports import free_port

GRAPH = {
    "1": {
        "class_type": "EmptyImage",
        "inputs": {"width": 32, "height": 16, "batch_size": 1, "color": 0x336699},
    },
    "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "out"}},
}


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[int]:
    """The port of a ComfyUI that nobody of ours started."""
    port = free_port()
    argv = [sys.executable, "-m", "machine_lifecycle.simulation", "--listen", "127.0.0.1"]
    folders = ["--output-directory", str(tmp_path / "o"), "--temp-directory", str(tmp_path / "t")]
    service = subprocess.Popen([*argv, "--port", str(port), *folders], stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if not probe.connect_ex(("127.0.0.1", port)):
                break
        time.sleep(0.02)  # sleep: a port offers no event
    yield port
    service.terminate()
    service.wait(PATIENCE)


def test_a_worker_without_a_service_here_goes_without_waiting_and_without_a_password(
    outside: Callable[..., Outside], elsewhere: int
) -> None:
    machine = outside(
        WORKERS="comfyui-remote:1",
        WORKER_COMFYUI_REMOTE_HOST="127.0.0.1",
        WORKER_COMFYUI_REMOTE_PORT=str(elsewhere),
        REDIS="embedded",
    ).start()
    machine.until("machine_ready")
    graph = machine.folder / "graph.json"
    graph.write_text(json.dumps(GRAPH), encoding="utf-8")
    done = machine.call("submit", str(graph), "--service", "comfyui", "--watch", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["status"] == "completed"
