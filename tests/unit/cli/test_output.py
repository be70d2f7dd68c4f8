"""What people see: nothing is cut, progress is told where no bar can be drawn."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from machine_lifecycle.cli.output import print_error, table
from machine_lifecycle.cli.watching import ProgressLines
from machine_lifecycle.jobs.records import JobEvent


def test_a_table_cuts_no_name_however_narrow_the_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    name = "redis-worker-comfyui-with-a-long-name-0"
    table(("name", "waits"), [(name, "GET /object_info answers with status 200")])
    heading, row = capsys.readouterr().out.splitlines()
    assert heading.split() == ["NAME", "WAITS"]
    assert row.rstrip() == f"{name}  GET /object_info answers with status 200"


def test_progress_is_told_now_and_then_and_each_change_at_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    moments = iter((0.0, 0.1, 0.2, 0.3, 1.2, 1.3))
    lines = ProgressLines("0123456789", now=lambda: next(moments))
    for kind, percent in (
        ("submitted", 0), ("claimed", 0), ("progress", 5), ("progress", 10),
        ("progress", 50), ("completed", 100),
    ):  # fmt: skip
        lines.tell(JobEvent(kind=kind, job_id="0123456789", percent=percent, worker_id="w-0"))
    said = capsys.readouterr().err.splitlines()
    assert said == [
        "job 23456789   0% submitted",
        "job 23456789   0% claimed by w-0",
        "job 23456789   5% progress",
        "job 23456789  50% progress",
        "job 23456789 100% completed",
    ]


def test_commands_of_remedies_are_not_folded() -> None:
    screen = Console(file=io.StringIO(), width=40, force_terminal=True, color_system=None)
    command = "git ls-remote https://example.org/a/repository/with/a/long/name.git refs/heads/main"
    remedies = [{"text": "Ask it", "command": command}]
    print_error(screen, {"summary": "gone " * 20, "code": "gone", "remedies": remedies})
    assert isinstance(screen.file, io.StringIO)
    assert command in screen.file.getvalue()
