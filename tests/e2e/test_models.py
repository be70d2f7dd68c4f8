"""A whole machine with a list of models: killed in a download, booted again, degraded, told."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from machine_lifecycle.model.status import ConditionKind
from tests.support.comfyui_bed import make_bed
from tests.support.file_server import FileServer, serving_in_a_thread
from tests.support.installing_machine import MAIN, machine_of
from tests.support.outside import Outside

DATA = os.urandom(3 << 20)


@pytest.fixture
def server() -> Iterator[FileServer]:
    with serving_in_a_thread() as served:
        yield served


def listed(root: Path, server: FileServer) -> str:
    sha256 = hashlib.sha256(DATA).hexdigest()
    models: list[dict[str, Any]] = [
        {"url": server.url("big"), "target": "checkpoints/big", "sha256": sha256, "required": True},
        {"url": server.url("gone"), "target": "loras/gone", "sha256": sha256},
    ]
    path = root / "models.json"
    path.write_text(json.dumps({"models": models}))
    return str(path)


def test_a_download_that_a_kill_cut_goes_on_and_one_that_fails_degrades(
    tmp_path: Path, outside: Callable[..., Outside], server: FileServer
) -> None:
    bed = make_bed(tmp_path, main=MAIN)
    bed.listed()
    server.add("big", DATA, halt=True)
    machine = machine_of(bed, outside, MODELS_MANIFEST=listed(tmp_path, server))
    assert "models" in machine.call("doctor").stdout
    machine.start()
    server.halted.wait()  # half of it is on its way
    partial = machine.folder / "w/ComfyUI/models/checkpoints/.big.partial"
    while not partial.exists() or partial.stat().st_size < 1 << 20:
        time.sleep(0.02)  # sleep: files offer no event
    machine.signal(signal.SIGKILL)
    machine.wait()
    came = partial.stat().st_size
    assert not partial.with_name("big").exists()
    server.go_on()
    machine.start().until("machine_ready")
    assert partial.with_name("big").read_bytes() == DATA
    assert not partial.exists()
    assert [h.get("Range") for path, h in server.asked if path == "big"][-1] == f"bytes={came}-"
    report = json.loads(machine.call("status", "--json").stdout)
    (why,) = [
        one["reason"] for one in report["conditions"] if one["kind"] == ConditionKind.DEGRADED
    ]
    assert "model loras/gone" in why
    assert "HTTP status 404" in why
    machine.signal(signal.SIGTERM)
    assert machine.wait() == 0
    asked = len(server.asked)
    machine.start().until("machine_ready")
    assert [path for path, _ in server.asked[asked:]] == ["gone"]
    told = json.loads(machine.call("models", "--json").stdout)
    assert [one["state"] for one in told] == ["there", "missing"]
