"""The life of ComfyUIs that the machine installs and starts itself: beside each other, and when a
start can't succeed.

``COMFYUI_REPO_URL`` and ``COMFYUI_PYTHON`` as for ``test_local_comfyui.py``.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from machine_lifecycle.services.comfyui import known_arguments
from tests.real.conftest import Driven, Version, machine_settings
from tests.support.outside import Outside

pytestmark = [pytest.mark.real, pytest.mark.timeout(600)]

WRITTEN = ("--output-directory", "--temp-directory", "--user-directory", "--database-url")
"""Arguments that name what an instance writes to."""


def arguments(pid: int) -> dict[str, str]:
    argv = psutil.Process(pid).cmdline()
    return {name: argv[argv.index(name) + 1] for name in WRITTEN if name in argv}


def test_two_instances_share_no_file_that_they_write(
    local: Callable[..., Driven], graphs: Any
) -> None:
    driven = local(MOCK_GPU_NUM="2")
    driven.boot()
    processes = driven.processes()
    first, second = (arguments(processes[f"comfyui-gpu{number}"]["pid"]) for number in (0, 1))
    known = known_arguments(driven.machine.folder / "w" / "ComfyUI")
    assert set(first) == set(second) == set(WRITTEN) & known
    assert not set(first.values()) & set(second.values())
    answers = driven.submit(graphs.picture(0x102938, "many"), "--count", "20", "--watch")
    assert [answer["status"] for answer in answers] == ["completed"] * 20
    for number in (0, 1):
        log = driven.machine.folder / "w" / "logs" / f"comfyui-gpu{number}.log"
        text = log.read_text("utf-8", "replace")
        assert "Could not acquire lock" not in text
        assert "Traceback" not in text


WRAPPER = """#!/bin/sh
# The real Python, but for the service itself, which starts as the file beside says.
case "$*" in *--port*) . "$0.how" ;; esac
exec {python} "$@"
"""
BROKEN_TORCH = 'raise ImportError("libcudart.so.12: cannot open shared object file")\n'


@pytest.fixture
def wrapped(
    outside: Callable[..., Outside], comfyui: Version, tmp_path: Path
) -> tuple[Driven, Callable[[str], None]]:
    """A machine whose ComfyUI starts as it is told: a line of shell."""
    python = tmp_path / "python"
    python.write_text(WRAPPER.format(python=comfyui.python), encoding="utf-8")
    python.chmod(0o755)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "torch.py").write_text(BROKEN_TORCH, encoding="utf-8")
    settings = machine_settings(comfyui) | {"COMFYUI_PYTHON": str(python)}
    machine = outside(**settings)
    machine.patience = 240

    def how(line: str) -> None:
        (tmp_path / "python.how").write_text(line + "\n", encoding="utf-8")

    return Driven(machine), how


def failure(driven: Driven) -> dict[str, Any]:
    """Boot it; the error with which that failed, and how often the service was started."""
    machine = driven.machine.start()
    error: dict[str, Any] = machine.until("machine_failed")["error"]
    assert machine.wait() == 3
    spawned = [
        event["process"]["pid"]
        for event in machine.events
        if event["kind"] == "process_changed"
        and event["process"]["name"] == "comfyui-gpu0"
        and event["process"]["state"] == "starting"
    ]
    return error | {"starts": len(set(spawned))}


def test_a_start_that_cannot_succeed_fails_the_boot_with_its_last_lines(
    wrapped: tuple[Driven, Callable[[str], None]], tmp_path: Path
) -> None:
    driven, how = wrapped
    port = int(driven.machine.env["COMFYUI_BASE_PORT"])

    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()
        taken = failure(driven)
    assert taken["code"] == "port-taken"
    assert str(os.getpid()) in taken["summary"]
    assert taken["starts"] == 0
    assert not (driven.machine.folder / "w" / "ComfyUI").exists(), "nothing was installed first"

    how(f"export PYTHONPATH={tmp_path}/broken")
    broken = failure(driven)
    assert (broken["code"], broken["starts"]) == ("process-failed", 2)
    assert "exit status 1" in broken["summary"]
    assert "libcudart" in "\n".join(broken["context"])

    how("ulimit -v 400000")
    scarce = failure(driven)
    assert (scarce["code"], scarce["starts"]) == ("process-failed", 2)
    said = "\n".join(scarce["context"])
    assert "alloc" in said or "failed to map segment" in said

    how("kill -KILL $$")
    killed = failure(driven)
    assert (killed["code"], killed["starts"]) == ("process-failed", 2)
    assert "killed by SIGKILL" in killed["summary"]
    assert any("out of memory" in (one["command"] or "") for one in killed["remedies"])

    how("set -- main.py --no-such-argument")
    wrong = failure(driven)
    assert (wrong["code"], wrong["starts"]) == ("process-failed", 2)
    assert "unrecognized arguments" in "\n".join(wrong["context"])

    how(":")
    driven.boot()
    assert driven.processes()["comfyui-gpu0"]["ready"]
