"""A service's ``limits`` in the service mapping, to a value."""

from __future__ import annotations

import re

from machine_lifecycle.config.document import Cursor
from machine_lifecycle.model.limits import IO_CLASSES, RESOURCES, UNLIMITED, Limits

__all__ = ["read_process_limits"]

_OTHERS = ("nice", "ionice", "cpus", "umask", "user", "group")
_HIGHEST = 2**63 - 1
_HIGHEST_CPU = 4095
_CPUS = re.compile(r"\d{1,4}(-\d{1,4})?(,\d{1,4}(-\d{1,4})?)*")
_UMASK = re.compile(r"0?[0-7]{3}")
_IONICE = re.compile(rf"({'|'.join(IO_CLASSES)})(:[0-7])?")


def read_process_limits(cursor: Cursor | None) -> Limits:
    """Read them; problems are noted at their place."""
    if cursor is None:
        return Limits()
    resources: dict[str, int] = {}
    for key, member in cursor.members():
        if key in RESOURCES:
            unlimited = member.value == "unlimited"
            value = UNLIMITED if unlimited else member.number(0, _HIGHEST)
            if value is not None:
                resources[key] = value
        elif key not in _OTHERS:
            known = ", ".join((*_OTHERS, *RESOURCES))
            member.problem(f"there is no limit `{key}`", f"Write one of {known}")
    nice, umask = cursor.get("nice"), _said(cursor, "umask", _UMASK, "027")
    return Limits(
        nice=nice.number(-20, 19) if nice else None,
        ionice=_said(cursor, "ionice", _IONICE, "idle, or best-effort:7"),
        cpus=_cpus(cursor),
        resources=resources,
        umask=int(umask, 8) if umask else None,
        user=_text(cursor, "user"),
        group=_text(cursor, "group"),
    )


def _text(cursor: Cursor, key: str) -> str:
    member = cursor.get(key)
    return member.name() if member else ""


def _said(cursor: Cursor, key: str, form: re.Pattern[str], example: str) -> str:
    text = _text(cursor, key)
    member = cursor.get(key)
    if text and member and not form.fullmatch(text):
        member.problem(f"`{text}` is no {key}", f'Write "{example}"')
        return ""
    return text


def _cpus(cursor: Cursor) -> tuple[int, ...]:
    found: set[int] = set()
    text = _said(cursor, "cpus", _CPUS, "0-3,8")
    for part in text.split(",") if text else ():
        first, _, last = part.partition("-")
        found |= set(range(int(first), min(int(last or first), _HIGHEST_CPU) + 1))
    return tuple(sorted(found))
