"""What the pages tell the reader to type works when it is typed.

Blocks of ``bash`` are run as they stand, the lines of ``console`` blocks that begin with ``$ `` one
by one: in the order of their page, in one folder, and what they export stays. A comment before a
block says what is special about it:

- ``<!-- run: background -->`` starts a machine and waits until it says that it is ready;
- ``<!-- run: stops the machine -->`` ends the one in the background;
- ``<!-- run: leaves a server -->`` leaves one running, which says a line when it is up;
- ``<!-- run: status 2 -->`` fails so;
- ``<!-- run: skip: why -->`` can't be run here;
- ``<!-- file: NAME -->`` is a file of the reader's, which is written.

Python that stands by itself, without ``<!-- given: … -->``, is run as a program.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from tests.support.patience import PATIENCE
from tests.support.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    page
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md"))
    if page.parent.name != "reference"
)
BLOCK = re.compile(
    r"(?:^ *<!-- (?P<kind>run|file): (?P<how>[^\n]+?) -->\n)?"
    r"(?: *(?P<given><!-- given:)[^`]*?-->\n)?"
    r"^(?P<indent> *)```(?P<language>\w+)\n(?P<body>.*?)^ *```",
    re.DOTALL | re.MULTILINE,
)
NEEDS_A_MACHINE = re.compile(
    r"machine-lifecycle (?:status|ps|logs|submit|jobs|restart|drain|undrain|stop|signal|start)\b"
)
READY = re.compile(r"machine \S+ is ready in")
BASH = shutil.which("bash") or "/bin/bash"


@attrs.frozen
class Typed:
    """One thing that a page has its reader do: type a command, or write a file."""

    text: str
    how: str
    file: str = ""


def commands(page: Path) -> list[Typed]:
    found: list[Typed] = []
    for block in BLOCK.finditer(page.read_text(encoding="utf-8")):
        how, body = block["how"] or "", textwrap.dedent(block["body"])
        if block["kind"] == "file":
            found.append(Typed(text=body, how="", file=how))
        elif how.startswith("skip:"):
            assert how.removeprefix("skip:").strip(), f"{page}: no reason"
        elif block["language"] == "python" and not block["given"]:
            found.append(Typed(text=f"python3 - <<'END'\n{body}END", how=how))
        elif block["language"] == "bash":
            found.append(Typed(text=body, how=how))
        elif block["language"] == "console":
            lines = [line for line in body.splitlines() if line.startswith("$ ")]
            assert lines, f"{page}: a console block without a command"
            found += [Typed(text=line.removeprefix("$ "), how=how) for line in lines]
    return found


class Terminal:
    """A reader's terminals: the folder, the environment, the machine in the other window."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self._folder = folder
        self._environment = environment
        self._machine: subprocess.Popen[str] | None = None
        self._server: subprocess.Popen[str] | None = None

    def type(self, typed: Typed) -> None:
        """Do one thing, and hold it to what the page says of it."""
        if typed.file:
            (self._folder / typed.file).parent.mkdir(parents=True, exist_ok=True)
            (self._folder / typed.file).write_text(typed.text, encoding="utf-8")
            return
        if typed.how == "background":
            self.start(typed.text.strip())
            return
        if typed.how == "leaves a server":
            self._server = self._spawn(f"exec {typed.text.removesuffix('&')}")
            assert self._server.stdout is not None
            assert self._server.stdout.readline(), "it is up"
            return
        expected = int(typed.how.removeprefix("status ")) if "status" in typed.how else 0
        after = self._folder / ".environment"
        script = f"trap 'env -0 >\"{after}\"' EXIT\n{typed.text}\n"
        ran = subprocess.run(
            [BASH, "-euo", "pipefail", "-c", script],
            cwd=self._folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=3 * PATIENCE,
            check=False,
        )
        said = f"$ {typed.text}\n{ran.stdout}{ran.stderr}"
        assert ran.returncode == expected, said
        assert "Traceback" not in said, said
        if after.exists():
            pairs = (one.partition("=") for one in after.read_text("utf-8").split("\0") if one)
            self._environment = {name: value for name, _, value in pairs}
        if typed.how == "stops the machine":
            assert self._machine is not None
            assert self._machine.wait(PATIENCE) == 0, said

    def start(self, line: str) -> None:
        """Start a machine and wait until it says that it is ready."""
        self.close()
        self._machine = self._spawn(f"exec env {line}")
        assert self._machine.stdout is not None
        said = []
        for told in self._machine.stdout:
            said.append(told)
            if READY.search(told):
                return
        pytest.fail(f"$ {line}\n{''.join(said)}")

    def _spawn(self, line: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [BASH, "-c", line],
            cwd=self._folder,
            env={**self._environment, "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def leave(self) -> None:
        """End everything that runs."""
        self.close()
        if self._server is not None:
            self._server.kill()
            self._server.communicate()

    def close(self) -> None:
        """End the machine in the background, if one runs."""
        if self._machine is None:
            return
        if self._machine.poll() is None:
            self._machine.send_signal(signal.SIGTERM)
        with self._machine:  # reads to the end of its output, then waits
            try:
                self._machine.communicate(timeout=PATIENCE)
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
        "LOUD_BASE_PORT": str(free_port(count=8)),
        "GPU_MODE": "mock",
        "UV_OFFLINE": "1",
    }
    window = Terminal(tmp_path, environment)
    yield window
    window.leave()
    shutil.rmtree(runtime)


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if commands(page)],
    ids=lambda page: str(page.relative_to(ROOT)),
)
def test_commands_of_a_page_work(page: Path, terminal: Terminal) -> None:
    typed = commands(page)
    port = free_port(count=101)  # instead of the two that a page may speak of
    here, there = str(port), str(port + 100)
    first = next((one for one in typed if NEEDS_A_MACHINE.search(one.text)), None)
    started = any(one.how == "background" for one in typed)
    for one in typed:
        if one is first and not started:
            terminal.start("machine-lifecycle")
        terminal.type(attrs.evolve(one, text=one.text.replace("8899", here).replace("8999", there)))
