"""What the pages say about the service, and what files are."""

from __future__ import annotations

from typing import Any

import pytest

from machine_lifecycle.connectors.comfyui_facts import capabilities_of, probe_of
from machine_lifecycle.connectors.comfyui_outputs import kind_of


def _loader(spec: Any) -> dict[str, Any]:
    return {
        "CheckpointLoaderSimple": {
            "input": {"required": {"ckpt_name": spec}},
            "python_module": "nodes",
        },
        "Fancy": {"input": {}, "python_module": "custom_nodes.fancy-pack"},
    }


@pytest.mark.parametrize(
    "spec", [[["a.safetensors"], {}], ["COMBO", {"options": ["a.safetensors"]}]], ids=["old", "new"]
)
def test_models_and_packs_are_listed(spec: Any) -> None:
    stats = {"system": {"comfyui_version": "1"}, "devices": [{"name": "cpu", "type": "cpu"}]}
    known = capabilities_of(stats, _loader(spec))
    assert known["models"] == {"checkpoints": ["a.safetensors"]}
    assert known["node_packs"] == {"fancy-pack": 1}
    assert known["node_classes"] == ["CheckpointLoaderSimple", "Fancy"]
    assert known["devices"][0]["name"] == "cpu"


@pytest.mark.parametrize("spec", [None, [], "x", ["COMBO"], ["COMBO", {}], [[], {}]])
def test_no_models_are_no_models(spec: Any) -> None:
    assert capabilities_of({}, _loader(spec))["models"] == {}


@pytest.mark.parametrize("stats", [None, [], {}, {"system": 5}])
def test_something_else_on_the_port_is_no_comfyui(stats: Any) -> None:
    assert not probe_of(stats).healthy


@pytest.mark.parametrize(
    ("mime", "key", "kind"),
    [
        ("image/png", "images", "image"),
        ("image/gif", "gifs", "image"),
        ("video/mp4", "gifs", "video"),
        ("audio/flac", "audio", "audio"),
        ("text/plain", "files", "text"),
        ("application/json", "", "text"),
        ("application/octet-stream", "images", "image"),
        ("application/octet-stream", "3d", "binary"),
    ],
)
def test_the_kind_of_a_file(mime: str, key: str, kind: str) -> None:
    assert kind_of(mime, key) == kind
