"""What can be told of a graph without the service that runs it."""

from __future__ import annotations

from typing import Any

import pytest

from machine_lifecycle.connectors.comfyui import ComfyUIConnector
from machine_lifecycle.connectors.comfyui_graph import payload_problems
from machine_lifecycle.model.warming import PayloadChecker

GOOD = {
    "1": {"class_type": "EmptyImage", "inputs": {"width": 8, "size": [1, 2]}},
    "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0]}},
}


@pytest.mark.parametrize("payload", [GOOD, {"workflow": GOOD}, {"prompt": GOOD}])
def test_a_graph_in_each_form_is_fine(payload: dict[str, Any]) -> None:
    assert payload_problems(payload) == ()


def test_everything_that_is_wrong_is_told() -> None:
    graph = {
        "1": {"inputs": {"image": ["7", 0]}},
        "2": {"class_type": "", "inputs": 3},
        "3": GOOD["2"],
    }
    assert payload_problems(graph) == (
        "node 1 has no class_type",
        "image of node 1 comes from node 7, which is not there",
        "node 2 has no class_type",
        "the inputs of node 2 are no object",
    )


@pytest.mark.parametrize(
    ("payload", "word"), [({}, "no graph"), ({"nodes": [], "links": []}, "editor"), ([], "list")]
)
def test_what_is_no_graph_at_all(payload: Any, word: str) -> None:
    (problem,) = payload_problems(payload)
    assert word in problem


def test_connectors_can_be_asked_by_their_class() -> None:
    assert isinstance(ComfyUIConnector, PayloadChecker)
