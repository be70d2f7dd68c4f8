"""A real ComfyUI that runs a graph before it takes jobs.

``COMFYUI_REPO_URL`` and ``COMFYUI_PYTHON`` as for ``test_local_comfyui.py``.
"""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.real.conftest import Driven

pytestmark = [pytest.mark.real, pytest.mark.timeout(600)]


def history(driven: Driven) -> list[dict[str, Any]]:
    """What its only service has run, in order, as it tells itself."""
    port = driven.processes()["comfyui-gpu0"]["port"]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/history", timeout=30) as answer:
        return list(json.load(answer).values())


def seconds(entry: dict[str, Any]) -> float:
    """From the start of a prompt to its end, by the service's own clock."""
    at = {name: told["timestamp"] for name, told in entry["status"]["messages"]}
    return float(at["execution_success"] - at["execution_start"]) / 1000


def test_the_first_job_finds_the_service_warm(
    local: Callable[..., Driven], graphs: Any, tmp_path: Path
) -> None:
    warm = tmp_path / "warm.json"
    warm.write_text(json.dumps(graphs.picture(0x010203, "warm")), encoding="utf-8")
    driven = local(MOCK_GPU_NUM="1", COMFYUI_WARMUP=str(warm))
    driven.boot()
    (first,) = history(driven)
    answer = driven.submit(graphs.picture(0x102938, "job"), "--watch")
    assert answer["status"] == "completed"
    _, job = history(driven)
    # What a first graph pays for (imports, threads of the CPU's kernels) is a large part of it.
    assert seconds(job) < seconds(first)
