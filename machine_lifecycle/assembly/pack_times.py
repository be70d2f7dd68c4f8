"""What each node pack costs a boot, kept from boot to boot: one that got slower is named."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import attrs

from machine_lifecycle.lifecycle import events
from machine_lifecycle.lifecycle.core import Lifecycle
from machine_lifecycle.lifecycle.hooks import EventBus
from machine_lifecycle.model.packs import Loaded, PackTimes
from machine_lifecycle.system.files import write_atomically

__all__ = ["PackTimer", "Spent", "compare", "imports"]

Spent = Mapping[str, Mapping[str, float]]
"""Seconds of each part, by pack."""

_SLOWER = 1.2
"""Times the seconds of the boots before, from which on a part counts as slower."""
_AT_LEAST = 0.2
"""Seconds by which it must be slower: services tell imports to a tenth."""
_log = logging.getLogger("machine_lifecycle.machine")


def imports(loaded: Iterable[Loaded]) -> dict[str, dict[str, float]]:
    """What the import of each pack took, on the instance where it took longest."""
    found: dict[str, dict[str, float]] = {}
    for one in loaded:
        for pack in one.packs:
            if pack.seconds is not None:
                known = found.get(pack.name, {}).get("import", 0.0)
                found[pack.name] = {"import": max(known, pack.seconds)}
    return found


def compare(before: Spent, now: Spent) -> tuple[PackTimes, ...]:
    """The times of each pack as last measured, and which of this boot's got slower.

    Args:
        before: As of the boots before.
        now: Of this one; what was done before it is not in it.
    """
    found = []
    for name in sorted({*before, *now}):
        old, new = before.get(name, {}), now.get(name, {})
        parts = {**old, **new}
        slower = tuple(
            f"{part} took {new[part]:.1f} s, {old[part]:.1f} s before"
            for part in new
            if part in old and new[part] > max(old[part] * _SLOWER, old[part] + _AT_LEAST)
        )
        found.append(
            PackTimes(
                name=name,
                fetch=parts.get("fetch"),
                install=parts.get("install"),
                script=parts.get("script"),
                imported=parts.get("import"),
                slower=slower,
            )
        )
    return tuple(found)


@attrs.define(kw_only=True, eq=False)
class PackTimer:
    """At Ready, tells what a boot's packs took and writes it down for the next.

    Attributes:
        path: Where it is kept.
        spent: What the installation took, by pack.
        loaded: What services say of their imports.
    """

    lifecycle: Lifecycle
    bus: EventBus
    path: Path
    spent: Callable[[], Spent]
    loaded: Callable[[], Iterable[Loaded]]

    def hear(self, event: events.MachineReady | events.MachineFailed) -> None:
        """The machine is ready: services have been started, and told what they loaded. Of a boot
        that failed it is kept what was done, as the next one won't do it again.
        """
        now = {name: dict(parts) for name, parts in self.spent().items()}
        ready = isinstance(event, events.MachineReady)
        for name, parts in imports(self.loaded()).items() if ready else ():
            now.setdefault(name, {}).update(parts)
        if not now:
            return
        before = self._read()
        if ready:
            before = {name: parts for name, parts in before.items() if name in now}
            times = compare(before, now)
            self.bus.emit(events.PacksTimed(attempt=self.lifecycle.attempt, times=times))
        merged = {name: {**before.get(name, {}), **parts} for name, parts in now.items()}
        try:
            write_atomically(self.path, json.dumps({**before, **merged}, indent=1) + "\n")
        except OSError as error:
            _log.warning("times of node packs can't be kept in %s: %s", self.path, error)

    def _read(self) -> dict[str, dict[str, float]]:
        try:
            told = json.loads(self.path.read_text("utf-8"))
            return {
                str(name): {str(part): float(seconds) for part, seconds in parts.items()}
                for name, parts in told.items()
            }
        except (OSError, ValueError, AttributeError, TypeError):
            return {}  # the first boot, or a file that somebody changed: nothing is known
