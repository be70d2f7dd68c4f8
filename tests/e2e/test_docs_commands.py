"""What the pages tell the reader to type works when it is typed.

Commands in ``console`` blocks (lines that begin with ``$ ``) are run in the order of their page, in
one folder and environment. A comment before a block says what is special about it:
``<!-- run: background -->`` starts a machine and waits until it says that it is ready,
``<!-- run: stops the machine -->`` ends the one in the background, ``<!-- run: status 2 -->`` is
expected to fail so.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from machine_lifecycle.system.network import free_port

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    page
    for page in (ROOT / "docs").rglob("*.md")
    if "```console" in page.read_text(encoding="utf-8")
)
BLOCK = re.compile(
    r"(?:<!-- run: (?P<how>[^\n]+) -->\n)?```console\n(?P<body>.*?)```", re.DOTALL | re.MULTILINE
)
READY = re.compile(r"machine \S+ is ready in")
STOP_SECONDS = 20
BASH = shutil.which("bash") or "/bin/bash"


@attrs.frozen
class Typed:
    """One command of a page."""

    line: str
    how: str


def commands(page: Path) -> list[Typed]:
    return [
        Typed(line=line.removeprefix("$ "), how=block["how"] or "")
        for block in BLOCK.finditer(page.read_text(encoding="utf-8"))
        for line in block["body"].splitlines()
        if line.startswith("$ ")
    ]


class Terminal:
    """A reader's terminals: the folder, the environment, the machine in the other window."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self._folder = folder
        self._environment = environment
        self._machine: subprocess.Popen[str] | None = None

    def type(self, typed: Typed) -> None:
        """Run one command and hold it to what the page says of it."""
        if typed.how == "background":
            self.start(typed.line)
            return
        expected = int(typed.how.removeprefix("status ")) if "status" in typed.how else 0
        ran = subprocess.run(
            [BASH, "-euo", "pipefail", "-c", typed.line],
            cwd=self._folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        said = f"$ {typed.line}\n{ran.stdout}{ran.stderr}"
        assert ran.returncode == expected, said
        assert "Traceback" not in said, said
        if typed.how == "stops the machine":
            assert self._machine is not None
            assert self._machine.wait(STOP_SECONDS) == 0, said

    def start(self, line: str) -> None:
        """Start a machine and wait until it says that it is ready."""
        self.close()
        self._machine = subprocess.Popen(
            [BASH, "-c", f"exec env {line}"],
            cwd=self._folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self._machine.stdout is not None
        said = []
        for told in self._machine.stdout:
            said.append(told)
            if READY.search(told):
                return
        pytest.fail(f"$ {line}\n{''.join(said)}")

    def close(self) -> None:
        """End the machine in the background, if one runs."""
        if self._machine is None:
            return
        if self._machine.poll() is None:
            self._machine.send_signal(signal.SIGTERM)
        with self._machine:  # reads to the end of its output, then waits
            try:
                self._machine.communicate(timeout=STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._machine.kill()
                raise
        self._machine = None


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    # Paths of Unix sockets are short (107 bytes), pytest's folders are not.
    runtime = tempfile.mkdtemp(prefix="ml-", dir="/tmp")
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    environment = {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.defpath}",
        "HOME": str(tmp_path),
        "WORKSPACE_PATH": str(tmp_path / "workspace"),
        "MACHINE_RUNTIME_DIR": runtime,
        "MACHINE_HEALTH_PORT": "0",
        "SIMULATION_BASE_PORT": str(free_port(count=8)),
        "GPU_MODE": "mock",
    }
    window = Terminal(tmp_path, environment)
    yield window
    window.close()
    shutil.rmtree(runtime)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_of_a_page_work(page: Path, terminal: Terminal) -> None:
    typed = commands(page)
    if not any(command.how == "background" for command in typed):
        terminal.start("machine-lifecycle")
    for command in typed:
        terminal.type(command)
