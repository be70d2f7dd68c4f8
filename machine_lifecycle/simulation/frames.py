"""The messages that go over the socket, as values."""

from __future__ import annotations

import struct
import time
from collections.abc import Iterable, Mapping
from typing import Any

__all__ = [
    "binary_image",
    "frame",
    "node_state",
    "progress_state",
    "stamped",
    "status",
]

_PREVIEW_EVENT = 1
_PNG_FORMAT = 2


def frame(kind: str, data: Mapping[str, Any]) -> dict[str, Any]:
    """Any text message."""
    return {"type": kind, "data": dict(data)}


def status(remaining: int, client_id: str | None = None) -> dict[str, Any]:
    """How many prompts wait or run; with an id, the greeting of a new socket."""
    data: dict[str, Any] = {"status": {"exec_info": {"queue_remaining": remaining}}}
    if client_id is not None:
        data["sid"] = client_id
    return frame("status", data)


def stamped(data: Mapping[str, Any]) -> dict[str, Any]:
    """The data with the time, in milliseconds since 1970, that goes into the history too."""
    return {**data, "timestamp": int(time.time() * 1000)}


def node_state(prompt_id: str, node: str, value: float, limit: float, state: str) -> dict[str, Any]:
    """One node's entry in a ``progress_state``."""
    return {
        "value": value,
        "max": limit,
        "state": state,
        "node_id": node,
        "prompt_id": prompt_id,
        "display_node_id": node,
        "parent_node_id": None,
        "real_node_id": node,
    }


def progress_state(prompt_id: str, states: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The state of every node that has begun."""
    nodes = {state["node_id"]: dict(state) for state in states}
    return frame("progress_state", {"prompt_id": prompt_id, "nodes": nodes})


def binary_image(png: bytes) -> bytes:
    """A picture over the socket: event and format in front, four bytes each."""
    return struct.pack(">II", _PREVIEW_EVENT, _PNG_FORMAT) + png
