"""Names under which a job's images are stored, and the graph that is told of them."""

from __future__ import annotations

import pytest

from machine_lifecycle.connectors.comfyui_inputs import own_name, renamed


def test_the_bytes_make_the_name() -> None:
    first = own_name("face.png", b"one")
    assert first.startswith("face-")
    assert first.endswith(".png")
    assert own_name("face.png", b"one") == first
    assert own_name("face.png", b"two") != first


@pytest.mark.parametrize("name", ["a/b/face.png", "..\\face.png", "/etc/face.png"])
def test_a_name_never_leaves_the_top_of_the_folder(name: str) -> None:
    stored = own_name(name, b"")
    assert "/" not in stored
    assert "\\" not in stored
    assert stored.startswith("face-")


def test_inputs_that_are_the_name_are_told_the_new_one_and_nothing_else_is() -> None:
    graph = {
        "1": {"class_type": "LoadImage", "inputs": {"image": "face.png", "upload": "image"}},
        "2": {"class_type": "LoadImageMask", "inputs": {"image": "face.png [input]"}},
        "3": {"class_type": "Note", "inputs": {"text": "about face.png", "link": ["1", 0]}},
        "4": {"class_type": "Bare"},
    }
    told = renamed(graph, {"face.png": "face-1f.png"})
    assert told["1"]["inputs"] == {"image": "face-1f.png", "upload": "image"}
    assert told["2"]["inputs"] == {"image": "face-1f.png [input]"}
    assert told["3"] == graph["3"]
    assert told["4"] == graph["4"]
    assert graph["1"]["inputs"]["image"] == "face.png"  # type: ignore[index]
