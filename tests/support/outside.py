"""A machine as seen from outside: a child process, its events, and everything it started.

The harness is the subreaper of whatever the machine starts, so that nothing can hide: a process
that loses its parent becomes a child of the test.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import os
import queue
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil

from machine_lifecycle.control.client import ControlClient
from machine_lifecycle.errors import LifecycleError
from machine_lifecycle.model.paths import Paths
from tests.support.patience import PATIENCE
from tests.support.ports import free_port

__all__ = ["Outside", "subreaper"]

_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER, linux/prctl.h


@contextlib.contextmanager
def subreaper() -> Iterator[None]:
    """Be the parent of orphans (Linux)."""
    prctl = ctypes.CDLL(None).prctl
    prctl(_SUBREAPER, 1, 0, 0, 0)
    try:
        yield
    finally:
        prctl(_SUBREAPER, 0, 0, 0, 0)


class Outside:
    """One machine's folders and settings; it can be started again and again in them."""

    def __init__(self, **settings: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="ml-", dir="/tmp"))
        self.mark = uuid.uuid4().hex
        inherited = {
            name: value
            for name, value in os.environ.items()  # noqa: TID251 - children need PATH and HOME
            if name in ("PATH", "HOME", "LANG", "PYTHONPATH", "TMPDIR", "VIRTUAL_ENV")
        }
        self.env = {
            **inherited,
            "MACHINE_TEST_MARK": self.mark,
            "WORKSPACE_PATH": str(self.folder / "w"),
            "MACHINE_RUNTIME_DIR": str(self.folder / "r"),
            "MACHINE_ID": f"m{self.mark[:8]}",
            "MACHINE_HEALTH_PORT": "0",
            "SIMULATION_BASE_PORT": str(free_port(count=8)),
            "MACHINE_BOOT_ATTEMPTS": "1",
            "WORKERS": "simulation:1",
            **settings,
        }
        self.child: subprocess.Popen[str] | None = None
        self.patience = PATIENCE
        """Seconds to wait for an event; a real service takes longer than a simulated one."""
        self.events: list[dict[str, Any]] = []
        self._news: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._reader: threading.Thread | None = None

    @property
    def id(self) -> str:
        return self.env["MACHINE_ID"]

    # Life

    def start(self, *args: str, before: Sequence[str] = (), **settings: str) -> Outside:
        """Start the machine as a container would; its events are read as they come.

        *before* are words in front of the command line, such as another program that starts it.
        """
        self.events = []
        self._news = queue.Queue()
        with (self.folder / "stderr").open("ab") as errors:
            self.child = subprocess.Popen(
                [
                    *before,
                    sys.executable,
                    "-m",
                    "machine_lifecycle",
                    *(args or ("boot", "--events", "jsonl")),
                ],
                env={**self.env, **settings},
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                cwd=self.folder,
            )
        self._reader = threading.Thread(target=self._read, args=(self.child, self._news))
        self._reader.start()
        return self

    @staticmethod
    def _read(child: subprocess.Popen[str], news: queue.Queue[dict[str, Any] | None]) -> None:
        if child.stdout is not None:
            for line in child.stdout:
                if line.startswith("{"):
                    news.put(json.loads(line))
        news.put(None)

    def until(self, kind: str, **fields: Any) -> dict[str, Any]:
        """Wait for an event of this kind with these fields."""
        deadline = time.monotonic() + self.patience
        while True:
            try:
                event = self._news.get(timeout=max(0.01, deadline - time.monotonic()))
            except queue.Empty:
                last = [json.dumps(event)[:300] for event in self.events[-12:]]
                raise AssertionError(
                    "\n".join([f"no {kind} {fields}", *last, self.said()])
                ) from None
            if event is None:
                self._news.put(None)  # for whoever asks again
                raise AssertionError(f"ended without {kind} {fields}: {self.said()}")
            self.events.append(event)
            if event["kind"] == kind and all(event[name] == v for name, v in fields.items()):
                return event

    def once(self, kind: str, **fields: Any) -> dict[str, Any]:
        """The one event of this kind with these fields, waited for if it has not come yet."""
        found = [
            event
            for event in self.events
            if event["kind"] == kind and all(event[name] == v for name, v in fields.items())
        ] or [self.until(kind, **fields)]
        assert len(found) == 1, found
        return found[0]

    def until_in(self, state: str) -> None:
        """Wait until the machine is in a state. Every machine begins in ``starting``."""
        if state == "starting":
            self.until("step_progressed", state="starting")
        else:
            self.until("changed", target=state)

    def until_changed(self, name: str) -> dict[str, Any]:
        """Wait until a process changes; how it is then."""
        while True:
            process: dict[str, Any] = self.until("process_changed")["process"]
            if process["name"] == name:
                return process

    def until_process(self, name: str, *, ready: bool) -> None:
        """Wait until a process is ready, or no longer so."""
        while self.until_changed(name)["ready"] is not ready:
            continue

    def until_status(self, state: str, *, not_pid: int = 0) -> None:
        """Wait until the machine answers that it is in a state, where no events can be read."""
        self.until_report(lambda report: report["state"] == state and report["pid"] != not_pid)

    def until_report(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Wait until the machine's report is as wanted, of which no event tells."""
        deadline = time.monotonic() + self.patience
        report: dict[str, Any] = {}
        while time.monotonic() < deadline:
            with contextlib.suppress(LifecycleError, OSError):  # it does not listen, or no longer
                report = asyncio.run(self._report())
                if wanted(report):
                    return report
            time.sleep(0.05)  # sleep: a program for each look would keep a processor busy
        raise AssertionError(f"never so: {json.dumps(report)[-2000:]} {self.said()[-500:]}")

    async def _report(self) -> dict[str, Any]:
        workspace, runtime = (
            Path(self.env[name]) for name in ("WORKSPACE_PATH", "MACHINE_RUNTIME_DIR")
        )
        paths = Paths(workspace=workspace, runtime=runtime)
        async with ControlClient(paths.control_socket) as client:
            report: dict[str, Any] = await client.call("status")
            return report

    def signal(self, number: signal.Signals) -> None:
        assert self.child is not None
        self.child.send_signal(number)

    def wait(self) -> int:
        """The exit status, once it has ended; what it said until then is read."""
        assert self.child is not None
        assert self._reader is not None
        code = self.child.wait(PATIENCE)
        self._reader.join(PATIENCE)
        while (event := self._news.get()) is not None:
            self.events.append(event)
        if self.child.stdout is not None:
            self.child.stdout.close()
        return code

    def said(self) -> str:
        """What it wrote to stderr."""
        return (self.folder / "stderr").read_text(encoding="utf-8", errors="replace")[-4000:]

    # The world around it

    def running(self) -> list[psutil.Process]:
        """Every living process that carries our mark in its environment, or our folder."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.status() == psutil.STATUS_ZOMBIE:
                    continue
                marked = process.environ().get("MACHINE_TEST_MARK") == self.mark
                if marked or str(self.folder) in " ".join(process.cmdline()):
                    found.append(process)
        return found

    def roles(self) -> list[str]:
        """What the running processes are, in order: service, worker, valkey, orchestrator."""
        return sorted(role_of(process.cmdline()) for process in self.running())

    def port_is_free(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", int(self.env["SIMULATION_BASE_PORT"]))) != 0

    def reap(self) -> None:
        """Bury orphans that were handed to us."""
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                continue

    def close(self) -> None:
        """End whatever is left, by pid, and remove the folders."""
        if self.child is not None and self.child.poll() is None:
            self.child.kill()
        if self.child is not None and self.child.stdout and not self.child.stdout.closed:
            self.wait()
        for process in self.running():
            with contextlib.suppress(psutil.Error):
                process.kill()
                process.wait(PATIENCE)
        self.reap()
        shutil.rmtree(self.folder, ignore_errors=True)

    def call(self, *args: str, **settings: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the command line against this machine."""
        return subprocess.run(
            [sys.executable, "-m", "machine_lifecycle", *args],
            env={**self.env, **settings},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
            cwd=self.folder,
        )


@contextlib.contextmanager
def machines() -> Iterator[Callable[..., Outside]]:
    """Makes machines, each with settings of its own; ends and removes them afterwards."""
    made: list[Outside] = []

    def make(**settings: str) -> Outside:
        made.append(Outside(**settings))
        return made[-1]

    with subreaper():
        try:
            yield make
        finally:
            for one in made:
                one.close()


def role_of(argv: list[str]) -> str:
    """What a command line is to the machine."""
    text = " ".join(argv)
    for word, role in (
        ("machine_lifecycle.simulation", "service"),
        ("redis-worker", "worker"),
        ("valkey", "valkey"),
        ("machine_lifecycle", "orchestrator"),
    ):
        if word in text:
            return role
    return text
