"""Frames in, typed events out."""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from machine_lifecycle.connectors import comfyui_events as events
from machine_lifecycle.model.jobs import NodeFailure


def _frame(kind: str, **data: Any) -> str:
    return json.dumps({"type": kind, "data": data})


@pytest.mark.parametrize(
    ("frame", "event"),
    [
        (_frame("client_id", client_id="c1"), events.Greeting("c1")),
        (
            _frame("status", status={"exec_info": {"queue_remaining": 3}}, sid="c1"),
            events.QueueStatus(3, "c1"),
        ),
        (
            _frame("status", status={"exec_info": {"queue_remaining": 0}}),
            events.QueueStatus(0),
        ),
        (_frame("execution_start", prompt_id="p", timestamp=1), events.Started("p")),
        (
            _frame("execution_cached", prompt_id="p", nodes=["1", "2"]),
            events.Cached("p", ("1", "2")),
        ),
        (
            _frame("executing", node="4", display_node="4", prompt_id="p"),
            events.Executing("p", "4"),
        ),
        (_frame("executing", node=None, prompt_id="p"), events.Executing("p", None)),
        (_frame("executing", node="4"), events.Executing("", "4")),
        (
            _frame("node_executing", node="4", prompt_id="p", class_type="KSampler"),
            events.Executing("p", "4", "KSampler"),
        ),
        (
            _frame("progress", value=2, max=20, prompt_id="p", node="4"),
            events.StepDone("p", "4", 2.0, 20.0),
        ),
        (
            _frame(
                "progress_state",
                prompt_id="p",
                nodes={
                    "1": {"value": 1.0, "max": 1.0, "state": "finished"},
                    "2": {"value": 3, "max": 9, "state": "running"},
                    "3": {"value": 0, "max": 1, "state": "pending"},
                },
            ),
            events.NodeStates("p", ("1",), {"2": (3.0, 9.0)}),
        ),
        (
            _frame("executed", node="9", prompt_id="p", output={"text": ["hello"]}),
            events.Executed("p", "9", {"text": ["hello"]}),
        ),
        (_frame("executed", node="9", prompt_id="p", output=None), events.Executed("p", "9", {})),
        (_frame("execution_success", prompt_id="p"), events.Succeeded("p")),
        (
            _frame("execution_interrupted", prompt_id="p", node_id="4", node_type="KSampler"),
            events.Interrupted("p", "4"),
        ),
        (
            _frame(
                "execution_error",
                prompt_id="p",
                node_id="4",
                node_type="KSampler",
                exception_message="went wrong\n",
                exception_type="ValueError",
                traceback=["  line 1\n    more\n", "  line 2\n"],
            ),
            events.Failed(
                "p",
                NodeFailure(
                    node="4", node_type="KSampler", message="went wrong", kind="ValueError"
                ),
                ("  line 1", "    more", "  line 2"),
            ),
        ),
    ],
)
def test_every_message_has_its_event(frame: str, event: events.Event):
    assert events.parse_frame(frame) == event


@pytest.mark.parametrize(
    "frame",
    [
        _frame("crystools.monitor", cpu=3),
        json.dumps({"type": "pong"}),
        struct.pack(">I", 3) + b"text of some node",
        struct.pack(">II", 4, 1) + b"with metadata",
    ],
)
def test_what_is_of_no_use_is_left_out(frame: str | bytes):
    assert events.parse_frame(frame) is None


def test_a_picture_keeps_its_type_and_bytes():
    picture = events.parse_frame(struct.pack(">II", 1, 2) + b"\x89PNG")
    assert picture == events.Picture("image/png", b"\x89PNG")
    assert "4 bytes" in repr(picture)


@pytest.mark.parametrize(
    "frame",
    [
        "",
        "no json",
        "[]",
        "null",
        json.dumps({"type": "status"}),
        json.dumps({"type": "status", "data": {"status": None}}),
        json.dumps({"type": "progress", "data": {"value": "x", "max": 1}}),
        json.dumps({"type": "progress", "data": {"value": float("nan"), "max": 1}}),
        json.dumps({"type": "progress", "data": {"value": 1, "max": float("inf")}}),
        json.dumps({"type": "executing", "data": {}}),
        json.dumps({"type": "progress_state", "data": {"nodes": {"1": 5}}}),
        b"",
        b"\x00\x00",
    ],
)
def test_broken_frames_are_events_too(frame: str | bytes):
    assert isinstance(events.parse_frame(frame), events.Malformed)


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
_kinds = st.sampled_from(
    ["status", "client_id", "executing", "progress", "progress_state", "executed", "unheard"]
) | st.text(max_size=5)
_fields = st.sampled_from(["node", "prompt_id", "status", "nodes", "value", "max", "output"])


@given(kind=_kinds, data=st.dictionaries(_fields, _values) | _values)
def test_no_message_ever_raises(kind: str, data: Any):
    events.parse_frame(json.dumps({"type": kind, "data": data}))


@given(st.binary(max_size=20) | st.text(max_size=20))
def test_no_bytes_ever_raise(frame: str | bytes):
    events.parse_frame(frame)
