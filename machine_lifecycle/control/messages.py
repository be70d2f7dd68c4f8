"""The control socket's language: one JSON object a line. Pure.

A connection says who it is with its first line, ``{"hello": "worker", …}`` or
``{"hello": "client"}``. Workers then say what they do and are told what to do. Clients call:
``{"call": NAME, "args": {…}}`` is answered by ``{"ok": result}`` or ``{"error": {…}}``; a stream by
many ``{"item": …}`` and ``{"end": true}``.
"""

from __future__ import annotations

import json
from typing import Any

from machine_lifecycle.control.errors import ControlMessageUnusable

__all__ = ["MAX_LINE", "decode", "encode", "text_of"]

MAX_LINE = 1 << 20
"""Longest line in bytes that the machine reads: its memory is not for others to fill."""


def encode(message: dict[str, Any]) -> bytes:
    """One line. In ASCII: JSON may hold half a character, which has no other encoding."""
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


def decode(line: bytes) -> dict[str, Any]:
    """What a line says.

    Raises:
        ControlMessageUnusable: It is no JSON object.
    """
    try:
        message = json.loads(line)
    except (ValueError, RecursionError) as cause:
        raise ControlMessageUnusable(reason=f"no JSON: {line[:80]!r}") from cause
    if not isinstance(message, dict):
        raise ControlMessageUnusable(reason=f"no object: {line[:80]!r}")
    return message


def text_of(message: dict[str, Any], field: str, *, default: str | None = None) -> str:
    """A field that must be text.

    Raises:
        ControlMessageUnusable: It is something else, or not there and has no default.
    """
    value = message.get(field, default)
    if not isinstance(value, str):
        raise ControlMessageUnusable(reason=f"{field!r} must be text")
    return value
