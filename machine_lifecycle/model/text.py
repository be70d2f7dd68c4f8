"""Small conversions of values that rooms share; times and sizes for people."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["frozen_map", "human_bytes", "human_seconds"]

_KIB = 1024
_MINUTE = 60.0
_HOUR = 3600.0
_DAY = 86400.0


def frozen_map(values: Mapping[str, str]) -> dict[str, str]:
    """A copy in order of keys, so that equal maps print and hash to equal text."""
    return dict(sorted(values.items()))


def human_seconds(seconds: float) -> str:
    """A duration for people: ``340 ms``, ``4.8 s``, ``3 min 20 s``, ``2 h 5 min``, ``3 d 4 h``."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < _MINUTE:
        return f"{seconds:.1f} s"
    if seconds < _HOUR:
        return f"{seconds // _MINUTE:.0f} min {seconds % _MINUTE:.0f} s"
    if seconds < _DAY:
        return f"{seconds // _HOUR:.0f} h {seconds % _HOUR // _MINUTE:.0f} min"
    return f"{seconds // _DAY:.0f} d {seconds % _DAY // _HOUR:.0f} h"


def human_bytes(count: float) -> str:
    """A size for people, in powers of 1024: ``512 B``, ``3.4 KiB``, ``1.2 GiB``."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < _KIB:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= _KIB
    return f"{count:.1f} TiB"
