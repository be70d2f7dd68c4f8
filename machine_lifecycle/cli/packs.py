"""Node packs for people: how many are in, what their imports took, which are not and why."""

from __future__ import annotations

from collections.abc import Sequence

from machine_lifecycle.cli.output import human_seconds
from machine_lifecycle.model.packs import Pack, PackState, PackTimes
from machine_lifecycle.model.text import counted

__all__ = ["costliest", "pack_summary", "parts_of", "slowest"]

_SHOWN = 10
_QUICK = 0.05
"""Seconds below which ComfyUI's table says 0.0."""


def pack_summary(packs: Sequence[Pack]) -> str:
    """``12 node packs loaded in 4.2 s, not loaded: one``."""
    out = [pack.name for pack in packs if pack.state is not PackState.LOADED]
    loaded = len(packs) - len(out)
    told = [pack.seconds for pack in packs if pack.seconds is not None]
    took = f" in {human_seconds(sum(told))}" if sum(told) else ""
    rest = f", not loaded: {', '.join(out)}" if out else ""
    return f"{counted(loaded, 'node pack')} loaded{took}{rest}"


def slowest(packs: Sequence[Pack]) -> tuple[tuple[Pack, float], ...]:
    """Those whose imports took longest, with their seconds; not those that took no time."""
    took = [(pack, pack.seconds) for pack in packs if pack.seconds and pack.seconds > _QUICK]
    return tuple(sorted(took, key=lambda one: -one[1])[:_SHOWN])


def costliest(times: Sequence[PackTimes]) -> tuple[PackTimes, ...]:
    """Those that cost a boot most; not those that cost nothing worth telling."""
    took = [one for one in times if one.total > _QUICK]
    return tuple(sorted(took, key=lambda one: -one.total)[:_SHOWN])


def parts_of(one: PackTimes) -> str:
    """``fetch 1.2 s, import 300 ms``."""
    parts = {
        "fetch": one.fetch,
        "install": one.install,
        "script": one.script,
        "import": one.imported,
    }
    told = (f"{part} {human_seconds(took)}" for part, took in parts.items() if took)
    return ", ".join(told)
