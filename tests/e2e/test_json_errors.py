"""With ``--json`` an error is JSON too: the last line of stderr."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from machine_lifecycle.errors import ExitCode
from tests.support.outside import Outside


@pytest.mark.parametrize(
    ("words", "status", "code", "fact"),
    [
        (("ps",), ExitCode.BOOT_FAILED, "machine-not-running", "control.sock"),
        (("submit", "none.json"), ExitCode.CONFIGURATION, "payload-unusable", "none.json"),
        (("--env-file", "none", "plan"), ExitCode.CONFIGURATION, "env-file-unreadable", "none"),
        (("ps", "--nope"), ExitCode.CONFIGURATION, "usage-refused", "--nope"),
        (("statsu",), ExitCode.CONFIGURATION, "usage-refused", "Did you mean 'status'?"),
        (("jobs", "show"), ExitCode.CONFIGURATION, "usage-refused", "JOB_ID"),
        (("explain", "qwxz"), ExitCode.CONFIGURATION, "usage-refused", "qwxz"),
    ],
)
def test_an_error_is_one_line_of_json(
    outside: Callable[..., Outside], words: Sequence[str], status: int, code: str, fact: str
) -> None:
    machine = outside()
    done = machine.call(*words, "--json")
    assert (done.returncode, done.stdout) == (status, "")
    error = json.loads(done.stderr.splitlines()[-1])
    assert error["code"] == code
    assert fact in error["summary"]
    assert all(remedy["text"] for remedy in error["remedies"])
    assert machine.call("explain", error["code"]).returncode == ExitCode.OK


def test_several_at_once_are_one_object(outside: Callable[..., Outside]) -> None:
    wrong = {"MACHINE_HEALTH_PORT": "first", "MACHINE_STOP_TIMEOUT": "soon"}
    done = outside(**wrong).call("settings", "--json")
    assert done.returncode == ExitCode.CONFIGURATION
    error: dict[str, Any] = json.loads(done.stderr)
    assert error["code"] == "problems"
    assert [each["code"] for each in error["errors"]] == ["setting-invalid"] * len(wrong)
    assert all(name in json.dumps(error["errors"]) for name in wrong)


@pytest.mark.parametrize("words", [("ps",), ("ps", "--", "--json")])
def test_without_it_people_are_told(outside: Callable[..., Outside], words: Sequence[str]) -> None:
    done = outside().call(*words)
    assert done.stdout == ""
    assert not done.stderr.startswith("{")
    assert done.stderr.startswith(("error ", "Usage: "))


def test_a_demo_boots_nothing_for_a_folder_that_can_not_be_made(
    outside: Callable[..., Outside],
) -> None:
    machine = outside()
    (machine.folder / "file").touch()
    done = machine.call("demo", "--out", "file/pictures")
    assert (done.returncode, done.stdout) == (ExitCode.CONFIGURATION, "")
    assert "file/pictures can't be written: Not a directory [file-not-written]" in done.stderr
