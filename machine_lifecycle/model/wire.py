"""Values as JSON: the one form that pages, the control socket, events and ``--json`` tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from enum import Enum
from pathlib import PurePath
from typing import Any

import attrs

__all__ = ["to_json_value"]


def to_json_value(value: Any) -> Any:
    """Turn a value into what JSON has: objects, arrays, text, numbers, booleans, null.

    attrs values become objects of their public fields, enums their values, paths text, tuples and
    lists arrays, sets sorted arrays, keys of mappings text.

    Raises:
        TypeError: A value has no such form. Bytes are refused on purpose: a picture does not belong
            into a status.
    """
    if isinstance(value, Enum):  # first: some are text or numbers too
        return to_json_value(value.value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, PurePath):
        return str(value)
    if attrs.has(type(value)):
        return {
            field.name: to_json_value(getattr(value, field.name))
            for field in attrs.fields(type(value))
            if not field.name.startswith("_")
        }
    return _collection(value)


def _collection(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(to_json_value(key)): to_json_value(item) for key, item in value.items()}
    if isinstance(value, AbstractSet):
        return sorted((to_json_value(item) for item in value), key=str)
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray | memoryview):
        return [to_json_value(item) for item in value]
    raise TypeError(f"{type(value).__name__} has no form in JSON")
