"""The simulated service as a process: it says when it is ready, and ends at once."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.patience import PATIENCE


@pytest.fixture
def notify() -> Iterator[tuple[socket.socket, str]]:
    folder = Path(tempfile.mkdtemp(prefix="ml-", dir="/tmp"))  # socket paths are short
    address = str(folder / "notify.sock")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind(address)
        channel.settimeout(PATIENCE)
        yield channel, address
    shutil.rmtree(folder)


def _start(tmp_path: Path, port: int, *more: str, **variables: str) -> subprocess.Popen[bytes]:
    environ = {**os.environ, **variables}  # noqa: TID251 - the interpreter needs its own
    argv = [
        sys.executable, "-m", "machine_lifecycle.simulation", "--port", str(port),
        "--output-directory", str(tmp_path / "output"), "--temp-directory", str(tmp_path),
        "--disable-auto-launch", *more,
    ]  # fmt: skip
    return subprocess.Popen(argv, env=environ, stderr=subprocess.PIPE)


def _stats(port: int) -> Any:
    with urllib.request.urlopen(
        f"http://127.0.0.1:{port}/system_stats", timeout=PATIENCE
    ) as answer:
        return json.load(answer)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, -15), (signal.SIGINT, 0)])
def test_it_says_when_it_listens_and_ends_when_told(
    tmp_path: Path,
    unused_tcp_port: int,
    notify: tuple[socket.socket, str],
    number: signal.Signals,
    status: int,
) -> None:
    channel, address = notify
    with _start(
        tmp_path,
        unused_tcp_port,
        "--flavour",
        "fork",
        NOTIFY_SOCKET=address,
        SIMULATION_GPU_NAME="Pretend 9000",
        SIMULATION_GPU_MEMORY_MIB="1024",
    ) as process:
        try:
            assert channel.recv(100) == b"READY=1"
            stats = _stats(unused_tcp_port)  # it listens the moment it says so
            assert stats["system"]["comfyui_version"] == "0.3.12"
            assert str(unused_tcp_port) in stats["system"]["argv"]
            assert "Pretend 9000" in stats["devices"][0]["name"]
            assert stats["devices"][0]["vram_total"] == 2**30
            process.send_signal(number)
            assert process.wait(PATIENCE) == status
        finally:
            process.kill()


def test_a_taken_port_is_told(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with _start(tmp_path, taken.getsockname()[1]) as process:
            _out, said = process.communicate(timeout=PATIENCE)
            assert process.returncode == 1
            assert b"in use" in said


def test_earlier_previews_are_gone(
    tmp_path: Path, unused_tcp_port: int, notify: tuple[socket.socket, str]
) -> None:
    old = tmp_path / "temp" / "old.png"
    old.parent.mkdir()
    old.touch()
    channel, address = notify
    with _start(tmp_path, unused_tcp_port, NOTIFY_SOCKET=address) as process:
        try:
            assert channel.recv(100) == b"READY=1"
            assert not old.exists()
        finally:
            process.kill()
