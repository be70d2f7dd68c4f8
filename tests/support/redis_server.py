"""A real Valkey for tests, apart from any machine."""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import psutil

from machine_lifecycle.model.paths import Paths
from machine_lifecycle.model.redis_url import RedisUrl
from machine_lifecycle.system.valkey import embedded_spec, embedded_url
from tests.support.patience import PATIENCE

__all__ = ["ValkeyServer"]


class ValkeyServer:
    """The embedded server, started as the supervisor would start it."""

    def __init__(self, *, password_of: ValkeyServer | None = None) -> None:
        """Make it; *password_of*: it takes the place of that one, for who knows its password."""
        self.folder = Path(tempfile.mkdtemp(prefix="ml-", dir="/tmp"))
        self.paths = Paths(workspace=self.folder / "w", runtime=self.folder / "r")
        self.settings = self.paths.runtime / "valkey.conf"
        if password_of:
            self.paths.runtime.mkdir()
            self.settings.write_text(f"requirepass {password_of.password}\n", encoding="utf-8")
        self.spec = embedded_spec(self.paths)
        self.url = embedded_url(self.paths)
        self.password: str = RedisUrl.parse(self.url).password
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self.folder / "log").open("wb") as log:
            self.process = subprocess.Popen(self.spec.command.argv, stdout=log, stderr=log)
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
                probe.connect(str(self.paths.runtime / "valkey.sock"))
                return
            time.sleep(0.005)
        raise AssertionError((self.folder / "log").read_text(encoding="utf-8"))

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        if self.process is not None:
            if how is signal.SIGKILL:  # it begins no child from here on
                self.process.send_signal(signal.SIGSTOP)
            children: list[psutil.Process] = []
            with contextlib.suppress(psutil.NoSuchProcess):  # it may have ended by itself
                children = psutil.Process(self.process.pid).children()
            self.process.send_signal(how)
            self.process.wait(PATIENCE)
            self.process = None
            for child in children:  # one that rewrites the log outlives a server that is killed
                with contextlib.suppress(psutil.NoSuchProcess):
                    child.kill()
            psutil.wait_procs(children, timeout=PATIENCE)

    def close(self) -> None:
        self.stop(signal.SIGKILL)
        shutil.rmtree(self.folder)
