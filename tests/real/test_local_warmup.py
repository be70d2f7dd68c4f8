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


def told(entry: dict[str, Any], message: str) -> float:
    """When a prompt reported *message*, by the service's clock, which is the machine's: ms."""
    at = {name: body["timestamp"] for name, body in entry["status"]["messages"]}
    return float(at[message])


def color(entry: dict[str, Any]) -> int:
    """Of the picture that the graph of a prompt makes."""
    return next(
        int(node["inputs"]["color"])
        for node in entry["prompt"][2].values()
        if node["class_type"] == "EmptyImage"
    )


def test_the_first_job_finds_the_service_warm(
    local: Callable[..., Driven], graphs: Any, tmp_path: Path
) -> None:
    warm = tmp_path / "warm.json"
    warm.write_text(json.dumps(graphs.picture(0x010203, "warm")), encoding="utf-8")
    driven = local(MOCK_GPU_NUM="1", COMFYUI_WARMUP=str(warm))
    ready = driven.boot()[-1]
    (first,) = history(driven)
    assert color(first) == 0x010203
    assert first["status"]["status_str"] == "success"
    assert told(first, "execution_success") / 1000 <= ready["at"]
    answer = driven.submit(graphs.picture(0x102938, "job"), "--watch")
    assert answer["status"] == "completed"
    again, job = history(driven)
    assert again == first
    assert color(job) == 0x102938
