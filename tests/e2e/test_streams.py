"""Streams that break, are closed, or are shared: the machine lives on, and says what it can."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable

from tests.support.outside import Outside
from tests.support.patience import PATIENCE


def test_a_reader_of_events_may_leave(outside: Callable[..., Outside]) -> None:
    machine = outside()
    reading, writing = os.pipe()
    child = subprocess.Popen(
        [sys.executable, "-m", "machine_lifecycle", "boot", "--events", "jsonl"],
        env=machine.env, cwd=machine.folder, stdout=writing, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    os.close(writing)
    with os.fdopen(reading) as events:
        assert json.loads(events.readline())["seq"] == 1
    machine.until_status("ready")
    assert machine.call("stop").returncode == 0
    _, said = child.communicate(timeout=PATIENCE)
    assert child.returncode == 0, said


def test_closed_streams_harm_nothing(outside: Callable[..., Outside]) -> None:
    machine = outside()
    child = subprocess.Popen(
        ["/bin/sh", "-c", f"exec {sys.executable} -m machine_lifecycle <&- >&- 2>&-"],
        env=machine.env, cwd=machine.folder,
    )  # fmt: skip
    machine.until_status("ready")
    assert machine.call("stop").returncode == 0
    assert child.wait(PATIENCE) == 0


def test_repeated_logs_stay_out_of_the_events(outside: Callable[..., Outside]) -> None:
    machine = outside(MACHINE_TEE_LOGS="1").start()
    machine.until("machine_ready")
    machine.call("stop")
    assert machine.wait() == 0
    assert "[valkey]" in (machine.folder / "stderr").read_text(encoding="utf-8")
    assert [event["seq"] for event in machine.events] == list(range(1, len(machine.events) + 1))
