"""Events made up from the types of their fields."""

from __future__ import annotations

import types
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

import attrs

from machine_lifecycle.errors import LifecycleError
from machine_lifecycle.lifecycle.events import Event, MachineFailed

__all__ = ["made_up"]

_SIMPLE: dict[Any, Any] = {str: "made-up", int: 1, float: 1.5, bool: True, Path: Path("/made/up")}


def made_up(kind: type[Event]) -> Event:
    """An event of a kind, with a fact in each field that needs one."""
    if issubclass(kind, MachineFailed):
        return kind(error=LifecycleError(where="a check").to_wire())
    return kind(**_facts(kind))


def _facts(kind: type[attrs.AttrsInstance]) -> dict[str, Any]:
    hints = get_type_hints(kind)
    return {
        field.name: _fact(hints[field.name])
        for field in attrs.fields(kind)
        if field.default is attrs.NOTHING
    }


def _fact(hint: Any) -> Any:
    origin, inner = get_origin(hint) or hint, get_args(hint)
    if origin in (Union, types.UnionType):
        return _fact(next(one for one in inner if one is not type(None)))
    if origin in _SIMPLE:
        return _SIMPLE[origin]
    if issubclass(origin, Enum):
        return next(iter(origin))
    if attrs.has(origin):
        return origin(**_facts(origin))
    if issubclass(origin, Mapping):
        return {}
    return (_fact(inner[0]),) if inner else ()
