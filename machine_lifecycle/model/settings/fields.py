"""How a setting is declared: its variable, its default, and what it means."""

from __future__ import annotations

import os
from enum import Enum
from pathlib import Path
from typing import Any, get_args

import attrs

__all__ = ["SettingInfo", "fitted", "setting"]


@attrs.frozen(kw_only=True)
class SettingInfo:
    """What is known of one setting.

    Attributes:
        field: Attribute of ``Settings``.
        env: Environment variable, and older names of it, first one first.
        help: What it means, with its unit.
        secret: Whether its value must never be shown.
    """

    field: str
    env: tuple[str, ...]
    help: str
    secret: bool = False


def setting(env: str | tuple[str, ...], default: Any, text: str, *, secret: bool = False) -> Any:
    """A field of ``Settings``: the variable (older names after it), its default, its help."""
    names = (env,) if isinstance(env, str) else env
    return attrs.field(
        default=default,
        repr=not secret,
        metadata={"info": SettingInfo(field="", env=names, help=text, secret=secret)},
    )


def fitted(value: Any, wanted: Any) -> Any:
    """A value that a program gives for a setting of type *wanted*: a path or a choice may be a
    text, a duration a whole number.

    Raises:
        TypeError: It is of another type; with what is wanted, in words.
    """
    kinds = get_args(wanted) or (wanted,)
    # To Python a truth is a number; here that is a slip.
    if any(type(value) is kind if kind is int else isinstance(value, kind) for kind in kinds):
        return value
    for kind in kinds:
        if kind is float and type(value) is int:
            return float(value)
        if kind is Path and isinstance(value, str | os.PathLike):
            return Path(value)
        if issubclass(kind, Enum) and value in [one.value for one in kind]:
            return kind(value)
    raise TypeError(" or ".join(_words(kind) for kind in kinds))


def _words(kind: type) -> str:
    if issubclass(kind, Enum):
        return ", ".join(repr(one.value) for one in kind)
    return "None" if kind is type(None) else kind.__name__
