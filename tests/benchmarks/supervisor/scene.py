"""One supervisor with its children, seen from outside: by the children's clock, and by pidfds."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

import attrs
import psutil

from tests.benchmarks.supervisor.peers import HERE, Peer, Task, until

PATIENCE = 30.0


def compile_child(folder: Path) -> str:
    """Build the child, static where that is possible: it starts sooner."""
    program = str(folder / "child")
    for static in (["-static"], []):
        command = ["cc", "-O2", *static, "-o", program, str(HERE / "child.c")]
        if subprocess.run(command, check=False, capture_output=True).returncode == 0:
            return program
    sys.exit("there is no C compiler (cc) that can build tests/benchmarks/supervisor/child.c")


@attrs.frozen
class Cost:
    """What the supervisor's own processes need. CPU in seconds, memory in MiB."""

    cpu: float
    wakes: int
    rss: float
    pss: float
    processes: int


class Scene:
    """A context: starts the supervisor, and on exit ends and removes everything."""

    def __init__(self, peer: Peer, child: str, count: int, mode: str = "plain") -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="sv-", dir="/tmp"))
        self.record = self.folder / "record"
        self.record.touch()
        self.peer = peer
        files = self.folder / "files"
        files.mkdir()
        mode = f"{mode}:{self.record}"
        self.task = Task(folder=files, child=child, mode=mode, count=count)
        self.began = 0
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        if not until(lambda: len(self.starts()) >= self.task.count, PATIENCE):
            said = (self.task.folder / "output").read_text()[-500:]
            self.__exit__(None, None, None)
            raise TimeoutError(f"{self.peer.name}: {len(self.starts())} children: {said}")
        return self

    def start(self) -> None:
        """Start the supervisor (anew)."""
        self.began = time.monotonic_ns()
        self.process = self.peer.start(self.task)

    def events(self, kind: str) -> list[tuple[str, int, int]]:
        """Name, pid and nanosecond of each line of this kind."""
        rows = (
            line.split() for line in self.record.read_text().splitlines() if line.count(" ") == 3
        )
        return [(name, int(pid), int(at)) for event, name, pid, at in rows if event == kind]

    def starts(self) -> list[tuple[str, int, int]]:
        """Each start of a child."""
        return self.events("S")

    def children(self) -> list[int]:
        """Numbers of the children that run."""
        return [pid for _, pid, _ in self.starts() if _runs(pid)]

    def kill(self, pids: Iterable[int]) -> float:
        """Kill children; milliseconds until the last replacement runs."""
        before, wanted = len(self.starts()), list(pids)
        began = time.monotonic_ns()
        for pid in wanted:
            os.kill(pid, signal.SIGKILL)
        if not until(lambda: len(self.starts()) >= before + len(wanted), PATIENCE):
            return float("inf")
        return (max(at for _, _, at in self.starts()[before:]) - began) / 1e6

    def stop(self) -> float:
        """Stop the supervisor; milliseconds until the last child has ended."""
        poll, last, open_ones = select.poll(), 0.0, 0
        handles = [os.pidfd_open(pid) for pid in self.children()]
        for handle in handles:
            poll.register(handle, select.POLLIN)
            open_ones += 1
        began = time.monotonic()
        assert self.process is not None
        self.peer.stop(self.process, self.task)
        while open_ones and (ready := poll.poll(PATIENCE * 1000)):
            last = time.monotonic()
            for handle, _ in ready:
                poll.unregister(handle)
                open_ones -= 1
        for handle in handles:
            os.close(handle)
        return float("inf") if open_ones else (last - began) * 1000

    def keepers(self) -> list[psutil.Process]:
        """The supervisor's own processes."""
        found = psutil.Process().children(recursive=True)
        children = set(self.children())
        alive = [one for one in found if one.pid not in children and _runs(one.pid)]
        return [one for one in alive if str(self.folder) in _words(one) or self._led(one)]

    def _led(self, one: psutil.Process) -> bool:
        with contextlib.suppress(psutil.Error):
            return str(self.folder) in one.cwd() or str(self.folder) in str(one.environ())
        return False

    def cost(self) -> Cost:
        """What they have used up to now."""
        cpu, wakes, rss, pss, keepers = 0.0, 0, 0, 0, self.keepers()
        for one in keepers:
            with contextlib.suppress(psutil.Error, OSError):
                memory = one.memory_full_info()
                rss, pss = rss + memory.rss, pss + memory.pss
                for thread in os.listdir(f"/proc/{one.pid}/task"):  # noqa: PTH208 - /proc
                    place = Path(f"/proc/{one.pid}/task/{thread}")
                    cpu += int((place / "schedstat").read_text().split()[0]) / 1e9
                    status = (place / "status").read_text()
                    wakes += int(status.split("voluntary_ctxt_switches:")[1].split()[0])
        return Cost(cpu, wakes, rss / 2**20, pss / 2**20, len(keepers))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End everything that this scene started, supervisor first."""
        for one in self.keepers():
            with contextlib.suppress(psutil.Error):
                one.kill()
        for pid in self.children():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self.process is not None:
            self.process.wait(PATIENCE)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                continue
        shutil.rmtree(self.folder, ignore_errors=True)


def _words(one: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        return " ".join(one.cmdline())
    return ""


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False
