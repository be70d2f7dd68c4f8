"""What ComfyUI says over its socket, as typed values. Without I/O.

``parse_frame`` takes what came and never raises: unknown messages are ``None``, broken ones
``Malformed``. All versions since 0.3.12 are understood, and the fork with its own messages.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import attrs

from machine_lifecycle.model.jobs import NodeFailure

__all__ = [
    "Cached",
    "Event",
    "Executed",
    "Executing",
    "Failed",
    "Greeting",
    "Interrupted",
    "Malformed",
    "NodeStates",
    "Picture",
    "PromptEvent",
    "QueueStatus",
    "Started",
    "StepDone",
    "Succeeded",
    "failure_of",
    "parse_frame",
    "traceback_of",
]

_HEAD = struct.Struct(">II")
_PREVIEW = 1
_FORMATS = MappingProxyType({1: "image/jpeg", 2: "image/png"})
_TRACEBACK_LINES = 8


@attrs.frozen
class Event:
    """Anything that was said."""


@attrs.frozen
class Malformed(Event):
    """Something that can't be read.

    Attributes:
        reason: Why.
    """

    reason: str


@attrs.frozen
class Greeting(Event):
    """The id under which this socket gets its events.

    Attributes:
        client_id: The id.
    """

    client_id: str


@attrs.frozen
class QueueStatus(Event):
    """How long the queue is; goes to every socket.

    Attributes:
        remaining: Prompts that wait or run.
        client_id: This socket's id, in the first such message only.
    """

    remaining: int
    client_id: str = ""


@attrs.frozen
class Picture(Event):
    """A picture over the socket; it does not say of which prompt.

    Attributes:
        mime: MIME type.
        data: The file.
    """

    mime: str
    data: bytes = attrs.field(repr=lambda data: f"<{len(data)} bytes>")


@attrs.frozen
class PromptEvent(Event):
    """Something about one prompt.

    Attributes:
        prompt_id: Which; empty in the few messages that don't say it.
    """

    prompt_id: str


@attrs.frozen
class Started(PromptEvent):
    """It runs now."""


@attrs.frozen
class Cached(PromptEvent):
    """Nodes whose earlier results are used.

    Attributes:
        nodes: Their ids.
    """

    nodes: tuple[str, ...]


@attrs.frozen
class Executing(PromptEvent):
    """It is at a node, or at its end.

    Attributes:
        node: The node; ``None`` at the end, however it ended.
        node_type: Its class, where that is said.
    """

    node: str | None
    node_type: str = ""


@attrs.frozen
class StepDone(PromptEvent):
    """A step within a node.

    Attributes:
        node: The node, or empty.
        value: Steps done, of
        limit: how many.
    """

    node: str
    value: float
    limit: float


@attrs.frozen
class NodeStates(PromptEvent):
    """The state of every node that has begun.

    Attributes:
        finished: Nodes that are done.
        running: For each node that runs: steps done, and how many there are.
    """

    finished: tuple[str, ...]
    running: Mapping[str, tuple[float, float]]


@attrs.frozen
class Executed(PromptEvent):
    """A node is done, and has something to show.

    Attributes:
        node: The node.
        output: What it shows, as the history will have it.
    """

    node: str
    output: Mapping[str, Any]


@attrs.frozen
class Succeeded(PromptEvent):
    """All of it is done; the history is not written yet."""


@attrs.frozen
class Failed(PromptEvent):
    """A node raised.

    Attributes:
        failure: Which node, and what.
        traceback: The last lines.
    """

    failure: NodeFailure
    traceback: tuple[str, ...] = ()


@attrs.frozen
class Interrupted(PromptEvent):
    """It was stopped.

    Attributes:
        node: The node it was at.
    """

    node: str = ""


def parse_frame(frame: str | bytes) -> Event | None:
    """What a frame of the socket says; ``None`` for what we have no use for."""
    if isinstance(frame, bytes):
        return _binary(frame)
    try:
        return _message(json.loads(frame))
    except ValueError as error:
        return Malformed(f"no JSON: {error}")


def _message(message: Any) -> Event | None:
    if not isinstance(message, dict):
        return Malformed("no object")
    kind = _text(message.get("type"))
    read = _READERS.get(kind)
    if read is None:
        return None
    data = message.get("data")
    try:
        return read(data) if isinstance(data, dict) else Malformed(f"{kind} without data")
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        return Malformed(f"{kind}: {type(error).__name__} {error}")


def failure_of(data: Mapping[str, Any]) -> NodeFailure:
    """The failure that an ``execution_error`` tells of."""
    return NodeFailure(
        node=_text(data.get("node_id")),
        node_type=_text(data.get("node_type")),
        # Newer versions end the message in a newline.
        message=_text(data.get("exception_message")).strip(),
        kind=_text(data.get("exception_type")),
    )


def traceback_of(data: Mapping[str, Any]) -> tuple[str, ...]:
    """The last lines of an ``execution_error``'s traceback."""
    parts = data.get("traceback")
    if not isinstance(parts, list):
        return ()
    lines = [line for part in parts for line in _text(part).splitlines() if line.strip()]
    return tuple(line.rstrip() for line in lines[-_TRACEBACK_LINES:])


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _number(value: Any) -> float:
    """A count of steps: JSON as Python writes it knows more than numbers."""
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{number} is no count")
    return number


def _binary(frame: bytes) -> Event | None:
    if len(frame) < _HEAD.size:
        return Malformed("a binary frame without a head")
    event, form = _HEAD.unpack_from(frame)
    if event != _PREVIEW:
        return None
    return Picture(_FORMATS.get(form, "application/octet-stream"), frame[_HEAD.size :])


def _status(data: Mapping[str, Any]) -> Event:
    remaining = int(data["status"]["exec_info"]["queue_remaining"])
    return QueueStatus(remaining, _text(data.get("sid")))


def _of(data: Mapping[str, Any]) -> str:
    return _text(data.get("prompt_id"))


def _node_states(data: Mapping[str, Any]) -> Event:
    finished, running = [], {}
    for node, state in data["nodes"].items():
        if state.get("state") == "finished":
            finished.append(str(node))
        elif state.get("state") == "running":
            running[str(node)] = (_number(state["value"]), _number(state["max"]))
    return NodeStates(_of(data), tuple(finished), running)


def _executing(data: Mapping[str, Any]) -> Event:
    node = data["node"]
    return Executing(_of(data), None if node is None else str(node))


def _executed(data: Mapping[str, Any]) -> Event:
    output = data.get("output")
    shown = output if isinstance(output, dict) else {}
    return Executed(_of(data), str(data["node"]), shown)


_READERS: Mapping[str, Callable[[Mapping[str, Any]], Event]] = MappingProxyType(
    {
        "client_id": lambda data: Greeting(str(data["client_id"])),
        "status": _status,
        "execution_start": lambda data: Started(_of(data)),
        "execution_cached": lambda data: Cached(_of(data), tuple(map(str, data["nodes"]))),
        "node_executing": lambda data: Executing(
            _of(data), str(data["node"]), _text(data.get("class_type"))
        ),
        "executing": _executing,
        "progress": lambda data: StepDone(
            _of(data), _text(data.get("node")), _number(data["value"]), _number(data["max"])
        ),
        "progress_state": _node_states,
        "executed": _executed,
        "execution_success": lambda data: Succeeded(_of(data)),
        "execution_error": lambda data: Failed(_of(data), failure_of(data), traceback_of(data)),
        "execution_interrupted": lambda data: Interrupted(_of(data), _text(data.get("node_id"))),
    }
)
