"""How a setting is declared: its variable, its default, and what it means."""

from __future__ import annotations

from typing import Any

import attrs

__all__ = ["SettingInfo", "setting"]


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
