"""Node packs that a real ComfyUI loads and does not load, on a machine that installs it.

The variables are those of ``test_local_comfyui``. ComfyUI logs a pack that can't be imported and
goes on; its exit status and its pages say nothing of it.
"""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.real.conftest import Driven, node_list, repository

pytestmark = [pytest.mark.real, pytest.mark.timeout(600)]

HALVE = """
import time
time.sleep(0.3)
class Halve:
    CATEGORY, FUNCTION, RETURN_TYPES = "real", "run", ("IMAGE",)
    INPUT_TYPES = classmethod(lambda cls: {"required": {"image": ("IMAGE",)}})
    def run(self, image):
        return (image / 2,)
NODE_CLASS_MAPPINGS = {"RealHalve": Halve}
"""
SCRIPT = {"__init____dot__py": 'WEB_DIRECTORY = "."\n', "page__dot__js": "//\n"}
PACKS: dict[str, dict[str, str]] = {
    "halve": {"__init____dot__py": HALVE},
    "lacking": {"__init____dot__py": "import not_there.deep\n"},
    "raising": {"__init____dot__py": 'raise RuntimeError("no card of this kind")\n'},
    "scripts": {
        **SCRIPT,
        "__init____dot__py": SCRIPT["__init____dot__py"] + "NODE_CLASS_MAPPINGS = {}\n",
    },
    "bare_scripts": SCRIPT,
    "off.disabled": {"__init____dot__py": HALVE},
}
LACKING = "lacking (ModuleNotFoundError: No module named 'not_there')"
RAISING = "raising (RuntimeError: no card of this kind)"


def degraded(report: Any) -> str:
    return next((c["reason"] for c in report["conditions"] if c["kind"] == "degraded"), "")


def states(report: Any) -> dict[str, str]:
    (instance,) = report["loaded"]
    assert instance["complete"]
    return {pack["name"]: pack["state"] for pack in instance["packs"]}


def test_what_loads_is_used_and_what_does_not_is_named(
    local: Callable[..., Driven], graphs: Any, first_picture: Any, tmp_path: Path
) -> None:
    listed = [
        {"name": name, "url": repository(tmp_path / name, **files)} for name, files in PACKS.items()
    ]
    driven = local(
        CONFIG_NODES_PATH=node_list(tmp_path, *listed), MACHINE_PACK_FLOOR="0", LOG_FORMAT="text"
    )
    driven.boot()
    report = driven.status()
    assert report["state"] == "ready"
    found = states(report)
    # ComfyUI brings one of its own: it is not on the list, and is told of as loaded.
    assert found.pop("websocket_image_save") == "loaded"
    assert found == {
        "bare_scripts": "loaded", "halve": "loaded", "lacking": "failed", "off.disabled": "absent",
        "raising": "failed", "scripts": "loaded",
    }  # fmt: skip
    words = degraded(report)
    assert words.startswith("3 node packs did not load on comfyui-gpu0: ")
    assert LACKING in words
    assert RAISING in words
    assert "off.disabled (" in words
    packs = {pack["name"]: pack for pack in report["loaded"][0]["packs"]}
    assert packs["lacking"]["missing"] == "not_there"
    assert 0.2 < packs["halve"]["seconds"] < 5
    assert (packs["halve"]["nodes"], packs["scripts"]["nodes"]) == (1, 0)
    assert driven.page("/health")["degraded"] == words
    with urllib.request.urlopen(report["health_url"] + "/metrics", timeout=10) as answer:  # noqa: S310 - loopback
        metrics = answer.read().decode()
    assert 'machine_pack_loaded{instance="comfyui-gpu0",pack="lacking"} 0.0' in metrics
    assert 'machine_pack_import_seconds{instance="comfyui-gpu0",pack="halve"} 0.' in metrics
    assert f", degraded: {words}" in driven.machine.said()

    # A job that needs what is there runs; one that needs what failed is left where it is.
    graph = graphs.picture()
    graph["4"] = {"class_type": "RealHalve", "inputs": {"image": ["2", 0]}}
    graph["3"]["inputs"]["images"] = ["4", 0]
    left = [
        driven.submit(graph, "--requirements", json.dumps(need))["id"]
        for need in ({"node_packs": ["halve", "lacking"]}, {"custom_nodes": ["off.disabled"]})
    ]
    wanted = {"node_packs": ["halve", "scripts"], "node_classes": ["RealHalve", "SaveImage"]}
    done = driven.submit(graph, "--requirements", json.dumps(wanted), "--watch")
    assert done["status"] == "completed", done
    assert first_picture(done) == ((64, 48), (102, 76, 50))
    assert not any(driven.show(job)["worker_id"] for job in left)

    # What is mended loads at the next start: the condition follows, and so do the jobs.
    folder = next(driven.machine.folder.rglob("custom_nodes/lacking"))
    (folder / "__init__.py").write_text("NODE_CLASS_MAPPINGS = {}\n")
    driven.machine.call("restart", "comfyui-gpu0")
    driven.machine.until("job_finished", job_id=left[0], outcome="completed")
    report = driven.status()
    assert states(report)["lacking"] == "loaded"
    assert "lacking" not in degraded(report)
    assert RAISING in degraded(report)
