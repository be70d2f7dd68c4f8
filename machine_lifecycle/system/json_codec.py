"""JSON where much of it is read and written: by msgspec, several times as quick as the standard
library.

What msgspec refuses goes to the standard library: it may be odd and right all the same, and its
errors are those that callers know. What is no number (NaN) is written as ``null``, which every
party can read. Some things are written that the standard library refuses: bytes as Base64, sets as
lists, dates, UUIDs and decimals as text, enumerations as their values, dataclasses as objects.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec

__all__ = ["decode", "encode", "texts"]

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder()
_texts = msgspec.json.Decoder(dict[str, str])


def encode(value: Any) -> str:
    """A value as JSON.

    Raises:
        TypeError: Some of it is no JSON.
        ValueError: It holds itself, or half a character.
        RecursionError: It is nested too deep.
    """
    try:
        return _encoder.encode(value).decode()
    except (TypeError, ValueError, OverflowError, RecursionError):
        return json.dumps(value)


def decode(text: str | bytes) -> Any:
    """What a text says; whole numbers of any length come as they are.

    Raises:
        ValueError: It is no JSON.
        RecursionError: It is nested too deep.
    """
    try:
        return _decoder.decode(text)
    except (ValueError, RecursionError):
        return json.loads(text)


def texts(text: str | bytes) -> dict[str, str]:
    """An object whose values are texts, as the fields of a hash are.

    Raises:
        ValueError: It is none.
        RecursionError: It is nested too deep.
    """
    try:
        return _texts.decode(text)
    except (ValueError, RecursionError):
        found = json.loads(text)
    if not (isinstance(found, dict) and all(isinstance(each, str) for each in found.values())):
        raise ValueError("it is no object of texts")
    return found
