"""``machine-lifecycle install`` on a terminal, and elsewhere."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.lock_bed import served
from tests.support.person import Person


@pytest.fixture
def person(tmp_path: Path) -> Iterator[Person]:
    with served(tmp_path) as place:
        yield Person(place)


def on_a_terminal(person: Person, *words: str, **more: str) -> tuple[int, str]:
    """What a person sees of a command, and its status."""
    ours, theirs = os.openpty()
    environ = person.environ(TERM="xterm", COLUMNS="100", LINES="30", **more)
    process = subprocess.Popen(
        [sys.executable, "-m", "machine_lifecycle", *words],
        env=environ,
        cwd=person.place.root,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    seen = b""
    with contextlib.suppress(OSError):  # the terminal's other end was closed
        while data := os.read(ours, 1 << 16):
            seen += data
    os.close(ours)
    return process.wait(), re.sub(r"\x1b\[[0-9;]*m", "", seen.decode())


def test_steps_are_drawn_on_a_terminal_and_told_by_lines_elsewhere(person: Person) -> None:
    person.place.origin("a", requirements__txt="small\n")
    person.lists("a", custom_script="sleep 1.2")
    status, seen = on_a_terminal(person, "install", WORKERS="comfyui:1")
    assert status == 0, seen
    assert "node a script" in seen
    assert "✓ node a script" in seen
    assert "installing" in seen
    assert " steps" in seen
    assert "\x1b[2K" in seen  # lines are drawn anew
    assert "installed comfyui" in seen
    piped = person.calls(command="install", WORKERS="comfyui:1")
    assert "\x1b" not in piped.stderr
    assert "node a script: nothing to do" in piped.stderr
