"""A real Valkey for the tests of this folder."""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from machine_lifecycle.model.paths import Paths
from machine_lifecycle.system.redis import connect
from machine_lifecycle.system.valkey import embedded_spec, embedded_url


class ValkeyServer:
    """The embedded server, started as the supervisor would start it."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="ml-", dir="/tmp"))
        self.paths = Paths(workspace=self.folder / "w", runtime=self.folder / "r")
        self.spec = embedded_spec(self.paths)
        self.url = embedded_url(self.paths)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self.folder / "log").open("wb") as log:
            self.process = subprocess.Popen(self.spec.command.argv, stdout=log, stderr=log)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
                probe.connect(str(self.paths.runtime / "valkey.sock"))
                return
            time.sleep(0.005)
        raise AssertionError((self.folder / "log").read_text(encoding="utf-8"))

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait(10)
            self.process = None

    def close(self) -> None:
        self.stop(signal.SIGKILL)
        shutil.rmtree(self.folder)


@pytest.fixture(scope="session")
def valkey() -> Iterator[ValkeyServer]:
    server = ValkeyServer()
    server.start()
    yield server
    server.close()


@pytest_asyncio.fixture
async def redis(valkey: ValkeyServer) -> AsyncIterator[Redis]:
    client = connect(valkey.url)
    await client.flushall()
    yield client
    await client.aclose()


@pytest.fixture
def own_valkey() -> Iterator[ValkeyServer]:
    """One that the test may stop and kill."""
    server = ValkeyServer()
    server.start()
    yield server
    server.close()
