"""Small conversions of values that rooms share; times and sizes for people."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["counted", "frozen_map", "human_bytes", "human_seconds"]

_KIB = 1024


def frozen_map(values: Mapping[str, str]) -> dict[str, str]:
    """A copy in order of keys, so that equal maps print and hash to equal text."""
    return dict(sorted(values.items()))


def counted(count: int, what: str, many: str = "") -> str:
    """How many there are of something: ``1 worker``, ``2 workers``, ``2 processes``."""
    return f"{count} {what if count == 1 else many or f'{what}s'}"


def human_seconds(seconds: float) -> str:
    """A duration for people: ``340 ms``, ``4.8 s``, ``3 min 20 s``, ``2 h 5 min``, ``3 d 4 h``."""
    if round(seconds * 1000) < 1000:  # noqa: PLR2004 - milliseconds of a second
        return f"{seconds * 1000:.0f} ms"
    if round(seconds, 1) < 60:  # noqa: PLR2004 - seconds of a minute
        return f"{seconds:.1f} s"
    # Rounded first: else 59.7 s of a minute would be told as 60 s.
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    if not hours:
        return f"{minute} min {second} s"
    if not days:
        return f"{hour} h {minute} min"
    return f"{days} d {hour} h"


def human_bytes(count: float) -> str:
    """A size for people, in powers of 1024: ``512 B``, ``3.4 KiB``, ``1.2 GiB``."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if round(count, 1) < _KIB:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= _KIB
    return f"{count:.1f} TiB"
