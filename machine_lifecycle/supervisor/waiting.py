"""Wait for processes to get ready, and report what goes on meanwhile."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence

from machine_lifecycle.errors import LifecycleError
from machine_lifecycle.model.processes import ProcessState
from machine_lifecycle.model.progress import ProgressSink, Unheard
from machine_lifecycle.supervisor.logs import size
from machine_lifecycle.supervisor.unit import Unit, failure

__all__ = ["Pulse", "wait_ready"]

_LOOK = 1.0  # how often a growing log counts as progress, while somebody waits


class Pulse:
    """Wakes everybody who waits, each time something has changed."""

    def __init__(self) -> None:
        self._next: asyncio.Event = asyncio.Event()

    def beat(self) -> None:
        """Something has changed."""
        last, self._next = self._next, asyncio.Event()
        last.set()

    def next(self) -> asyncio.Event:
        """Set at the next change."""
        return self._next


def _with_needs(units: Mapping[str, Unit], name: str, seen: set[str]) -> Iterator[Unit]:
    if name in units and name not in seen:
        seen.add(name)
        yield units[name]
        for need in units[name].spec.needs:
            yield from _with_needs(units, need, seen)


def _obstacle(unit: Unit) -> LifecycleError | None:
    """Why this one can't get ready any more, if so."""
    if unit.state is ProcessState.FATAL:
        return unit.error
    if unit.state in (ProcessState.EXITED, ProcessState.STOPPED):
        last = unit.last_exit
        return failure(unit, last.reason if last else unit.state.value)
    return None


async def wait_ready(
    units: Mapping[str, Unit], names: Sequence[str], progress: ProgressSink | None, pulse: Pulse
) -> None:
    """Return when all *names* are ready; raise as soon as that is out of reach.

    A unit that changes or says how far it is, and a log that grows, count as progress, so that a
    long start is told from one that hangs.
    """
    progress = progress or Unheard()
    began = time.monotonic()
    ready: set[str] = set()
    seen: dict[str, tuple[object, ...]] = {}
    while True:
        changed = pulse.next()
        for name in names:
            unit = units[name]
            if unit.ready and name not in ready:
                ready.add(name)
                progress.finished(name, seconds=time.monotonic() - began)
        waiting = [name for name in names if not units[name].ready]
        if not waiting:
            return
        for name in waiting:
            ready.discard(name)
            for unit in _with_needs(units, name, set()):
                error = None if unit.ready else _obstacle(unit)
                if error is not None:
                    raise error
                sign = (unit.state, unit.ready, unit.restarts, unit.startup.told, size(unit.log))
                if seen.get(unit.spec.name) != sign:
                    seen[unit.spec.name] = sign
                    # What is ready is no step any more: whoever needs it goes on by its change.
                    told = units[name] if unit.ready else unit
                    detail = told.status().waiting_for or told.state.value
                    progress.step(told.spec.name, detail, done=len(ready), total=len(names))
        try:
            async with asyncio.timeout(_LOOK):
                await changed.wait()
        except TimeoutError:
            continue  # look at the logs
