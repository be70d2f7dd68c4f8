"""Streams that break, are closed, or are shared: the machine lives on, and says what it can."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from machine_lifecycle.errors import ExitCode
from tests.e2e.test_life import GRAPH
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


def printing(
    words: Sequence[str], stdout: int, *, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "machine_lifecycle", *words]
    try:
        return subprocess.run(
            argv, stdout=stdout, stderr=subprocess.PIPE,
            env=env, check=False, text=True, timeout=PATIENCE,
        )  # fmt: skip
    finally:
        os.close(stdout)


PRINTING = (
    ("--help",), ("submit", "--help"), ("--version",), ("diagram",), ("explain",),
    ("explain", "port-taken"), ("services",), ("services", "--json"), ("settings", "--json"),
)  # fmt: skip


@pytest.mark.parametrize("words", PRINTING, ids=" ".join)
def test_what_can_not_be_printed_is_an_error(words: Sequence[str]) -> None:
    done = printing(words, os.open("/dev/full", os.O_WRONLY))
    assert done.returncode == ExitCode.OUTPUT_NOT_WRITTEN, done.stderr
    assert "stdout can't be written: No space left on device" in done.stderr
    assert "output-not-written" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("words", PRINTING, ids=" ".join)
def test_a_reader_that_has_gone_ends_a_command_without_a_word(words: Sequence[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = printing(words, writing)
    assert (done.returncode, done.stderr) == (ExitCode.READER_GONE, "")


@pytest.mark.parametrize(
    ("words", "status"), [(("services",), ExitCode.OK), (("qwxz",), ExitCode.CONFIGURATION)]
)
def test_a_stderr_that_can_not_be_written_changes_no_status(
    words: Sequence[str], status: int
) -> None:
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        argv = [sys.executable, "-m", "machine_lifecycle", *words]
        done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=full, check=False)
    assert done.returncode == status


def test_ids_that_can_not_be_printed_are_told_with_the_error(
    outside: Callable[..., Outside],
) -> None:
    machine = outside().start()
    machine.until("machine_ready")
    graph = machine.folder / "graph.json"
    graph.write_text(json.dumps(GRAPH), encoding="utf-8")
    words = ("submit", str(graph), "--count", "3")
    done = printing(words, os.open("/dev/full", os.O_WRONLY), env=machine.env)
    assert done.returncode == ExitCode.OUTPUT_NOT_WRITTEN
    told = [line.removeprefix("  | ") for line in done.stderr.splitlines() if "  | " in line]
    listed = json.loads(machine.call("jobs", "list", "--json").stdout)["jobs"]
    assert sorted(told) == sorted(job["id"] for job in listed)
    assert len(told) == 3


def test_a_machine_lives_on_while_its_log_can_not_be_written(
    outside: Callable[..., Outside],
) -> None:
    machine = outside()
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        child = subprocess.Popen(
            [sys.executable, "-m", "machine_lifecycle"],
            env=machine.env, cwd=machine.folder, stdout=full, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
    machine.until_status("ready")
    assert machine.call("stop").returncode == 0
    _, said = child.communicate(timeout=PATIENCE)
    assert (child.returncode, said) == (0, "")


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
