"""Whether a process works, told by what it uses."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from machine_lifecycle.system.effort import Effort, effort_of, is_local

SERVER = """
import socket, sys, threading
server = socket.create_server(("127.0.0.1", 0))
print(server.getsockname()[1], flush=True)
for line in sys.stdin:
    if line.strip() == "compute":
        sum(number * number for number in range(3_000_000))
    elif line.strip() == "write":
        open("/dev/null", "wb", buffering=0).write(bytes(8 << 20))
    print("done", flush=True)
"""


class Server:
    """A process that listens, and works when it is told to."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.port = int(self._said())

    def _said(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def do(self, word: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(word + "\n")
        self._process.stdin.flush()
        assert self._said() == "done\n"


@contextmanager
def served() -> Iterator[Server]:
    pipe = subprocess.PIPE
    argv = [sys.executable, "-c", SERVER]
    with subprocess.Popen(argv, stdin=pipe, stdout=pipe, text=True) as process:
        yield Server(process)
        process.kill()


@pytest.mark.parametrize(("word", "works"), [("compute", True), ("write", True), ("rest", False)])
def test_work_shows_in_what_is_used(word: str, *, works: bool) -> None:
    with served() as server:
        before = effort_of(server.port)
        server.do(word)
        after = effort_of(server.port)
    assert before is not None
    assert after is not None
    # As if the looks were a second apart: the test need not wait for that.
    after = Effort(at=before.at + 1, processor=after.processor, moved=after.moved)
    assert after.works_since(before) is works


def test_nobody_and_oneself_tell_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as ours:
        port = ours.getsockname()[1]
        assert effort_of(port) is None
    assert effort_of(port) is None


def test_what_ended_meanwhile_is_no_work() -> None:
    before = Effort(at=0, processor=9, moved=10**9)
    assert not Effort(at=5, processor=1, moved=0).works_since(before)


@pytest.mark.parametrize(
    ("host", "local"),
    [("localhost", True), ("127.0.0.1", True), ("::1", True), ("10.0.0.1", False), ("gpu", False)],
)
def test_only_the_loopback_is_this_host(host: str, *, local: bool) -> None:
    assert is_local(host) is local
