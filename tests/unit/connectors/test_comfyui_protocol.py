"""Answers of the pages in the shapes of all versions."""

from __future__ import annotations

from typing import Any

import pytest

from machine_lifecycle.connectors.comfyui_protocol import (
    Place,
    is_out_of_memory,
    parse_history,
    parse_payload,
    parse_prompt_answer,
    parse_queue,
)
from machine_lifecycle.connectors.comfyui_run import Ending
from machine_lifecycle.connectors.errors import BadPayload, PromptRejected
from machine_lifecycle.model.jobs import NodeFailure

_GRAPH = {"1": {"class_type": "EmptyImage", "inputs": {}}}


@pytest.mark.parametrize(
    "payload",
    [_GRAPH, {"workflow": _GRAPH}, {"prompt": _GRAPH}, {"workflow": {"prompt": _GRAPH}}],
)
def test_every_form_of_a_graph_is_taken(payload: dict[str, Any]):
    assert parse_payload(payload).graph == _GRAPH


def test_extra_data_and_images_come_along():
    payload = parse_payload(
        {
            "prompt": _GRAPH,
            "extra_data": {"a": 1},
            "images": [
                {"name": "a.png", "data": "QUJD"},
                {"name": "b.png", "data": "data:image/png;base64,QUJD"},
            ],
        }
    )
    assert payload.extra_data == {"a": 1}
    assert payload.images == (("a.png", "QUJD"), ("b.png", "QUJD"))


@pytest.mark.parametrize(
    ("payload", "problem"),
    [
        ([], "no object"),
        ({}, "no graph"),
        ({"workflow": "text"}, "workflow is no graph"),
        ({"workflow": {"nodes": [], "links": []}}, "API form"),
        ({"1": "EmptyImage"}, "node 1 is no object"),
        ({"prompt": _GRAPH, "extra_data": 5}, "extra_data"),
        ({"prompt": _GRAPH, "images": {}}, "images is no list"),
        ({"prompt": _GRAPH, "images": [{"name": "x"}]}, "base64"),
    ],
)
def test_other_payloads_are_refused(payload: Any, problem: str):
    with pytest.raises(BadPayload, match=problem) as caught:
        parse_payload(payload)
    assert not caught.value.recoverable


def test_an_accepted_prompt_may_have_warnings():
    errors = {
        "3": {
            "errors": [
                {
                    "type": "required_input_missing",
                    "message": "Required input is missing",
                    "details": "images",
                }
            ],
            "dependent_outputs": ["3"],
            "class_type": "SaveImage",
        }
    }
    accepted = parse_prompt_answer(200, {"prompt_id": "p", "number": 1, "node_errors": errors})
    assert accepted.prompt_id == "p"
    assert accepted.warnings == (
        NodeFailure(
            node="3",
            node_type="SaveImage",
            message="Required input is missing: images",
            kind="required_input_missing",
        ),
    )


@pytest.mark.parametrize(
    ("status", "answer", "kind", "words"),
    [
        (400, {"error": "no prompt", "node_errors": []}, "", "no prompt"),
        (
            400,
            {"error": {"type": "no_prompt", "message": "No prompt provided", "details": "none"}},
            "no_prompt",
            "No prompt provided (none)",
        ),
        (
            400,
            {
                "error": {
                    "type": "invalid_prompt",
                    "message": "node X does not exist.",
                    "details": "Node ID '#1'",
                },
                "node_errors": [],
            },
            "invalid_prompt",
            "Node ID '#1'",
        ),
        (400, {"error": None, "node_errors": "?"}, "", "HTTP status 400"),
        (413, "too large", "", "too large"),
        (200, {"node_errors": {}}, "", "HTTP status 200"),
        (400, ["?"], "", "?"),
    ],
)
def test_refusals_in_every_shape(status: int, answer: Any, kind: str, words: str):
    with pytest.raises(PromptRejected) as caught:
        parse_prompt_answer(status, answer)
    assert caught.value.kind == kind
    assert words in caught.value.summary
    assert not caught.value.recoverable
    assert caught.value.remedies


def test_a_fault_of_the_service_is_recoverable():
    with pytest.raises(PromptRejected) as caught:
        parse_prompt_answer(500, "500 Internal Server Error")
    assert caught.value.recoverable


def _entry(status: Any, outputs: Any = None) -> dict[str, Any]:
    row = [1, "p", {"1": {}, "7": {}, "3": {}}, {}, ["3"]]
    return {"p": {"prompt": row, "outputs": outputs or {}, "status": status}}


_GOOD = {"status_str": "success", "completed": True, "messages": [["execution_success", {}]]}


@pytest.mark.parametrize("answer", [{}, [], None, {"other": {}}])
def test_an_unknown_prompt_has_no_history(answer: Any):
    assert parse_history(answer, "p") is None


def test_outputs_come_in_the_order_of_the_graph():
    outputs = {
        "3": {"images": [{"filename": "b.png", "subfolder": "x", "type": "temp"}]},
        "7": {
            "gifs": [{"filename": "v.mp4", "type": "output", "format": "video/h264-mp4"}],
            "text": ["hello"],
            "animated": [True],
        },
    }
    entry = parse_history(_entry(_GOOD, outputs), "p")
    assert entry is not None
    assert [(file.node, file.key, file.filename, file.type) for file in entry.files] == [
        ("7", "gifs", "v.mp4", "output"),
        ("3", "images", "b.png", "temp"),
    ]
    assert entry.data == {"7": {"text": ["hello"], "animated": [True]}}
    assert entry.ending is Ending.SUCCESS


def test_what_a_node_shows_that_is_no_list_is_kept_as_it_is():
    shown = {"text": "hello", "count": 5, "found": {"a": 1}, "nothing": None, "none": []}
    entry = parse_history(_entry(_GOOD, {"3": shown}), "p")
    assert entry is not None
    assert entry.files == ()
    assert entry.data == {"3": {name: one for name, one in shown.items() if name != "none"}}


def test_an_interruption_is_told_from_an_error():
    interrupted = {
        "status_str": "error",
        "messages": [["execution_start", {}], ["execution_interrupted", {"node_id": "7"}]],
    }
    entry = parse_history(_entry(interrupted), "p")
    assert entry is not None
    assert (entry.ending, entry.node) == (Ending.INTERRUPTED, "7")


def test_an_error_names_its_node():
    data = {
        "node_id": "7",
        "node_type": "KSampler",
        "exception_message": "no\n",
        "exception_type": "ValueError",
        "traceback": ["a\n", "b\n"],
    }
    entry = parse_history(
        _entry({"status_str": "error", "messages": [["execution_error", data]]}), "p"
    )
    assert entry is not None
    assert entry.failure == NodeFailure(
        node="7", node_type="KSampler", message="no", kind="ValueError"
    )
    assert entry.traceback == ("a", "b")


@pytest.mark.parametrize("status", [None, {}, {"status_str": "success", "messages": "?"}])
def test_a_history_without_messages_is_a_success(status: Any):
    entry = parse_history(_entry(status), "p")
    assert entry is not None
    assert entry.ending is Ending.SUCCESS


def test_an_error_without_messages_is_an_error():
    entry = parse_history(_entry({"status_str": "error"}), "p")
    assert entry is not None
    assert entry.ending is Ending.ERROR


@pytest.mark.parametrize(
    ("answer", "place"),
    [
        ({"queue_running": [[1, "p", {}]], "queue_pending": []}, Place.RUNNING),
        ({"queue_running": [[1, "o", {}]], "queue_pending": [[2, "p", {}]]}, Place.WAITING),
        ({"queue_running": [], "queue_pending": []}, Place.NOWHERE),
        ({"queue_running": None}, Place.NOWHERE),
        ({"queue_running": [[], 5, [1]]}, Place.NOWHERE),
        ([], Place.NOWHERE),
    ],
)
def test_the_place_in_the_queue(answer: Any, place: Place):
    assert parse_queue(answer, "p") is place


@pytest.mark.parametrize(
    ("kind", "message", "expected"),
    [
        ("torch.OutOfMemoryError", "Allocation on device", True),
        ("torch.cuda.OutOfMemoryError", "", True),
        ("MemoryError", "", True),
        ("RuntimeError", "CUDA error: out of memory", True),
        ("RuntimeError", "DefaultCPUAllocator: can't allocate memory: you tried", True),
        ("RuntimeError", "shape mismatch", False),
    ],
)
def test_out_of_memory_is_recognised(kind: str, message: str, *, expected: bool):
    failure = NodeFailure(node="1", node_type="X", message=message, kind=kind)
    assert is_out_of_memory(failure) is expected
