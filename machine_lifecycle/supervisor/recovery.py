"""Deal with the processes that an earlier orchestrator of this machine left behind."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Iterable

from machine_lifecycle.supervisor.household import Household
from machine_lifecycle.supervisor.identity import Identity, alive, boot_mark, send
from machine_lifecycle.supervisor.journal import Entry
from machine_lifecycle.supervisor.tree import bearers
from machine_lifecycle.supervisor.watch import gone

__all__ = ["end_recorded", "living"]

_GRACE = 3.0
_log = logging.getLogger(__name__)


def living(entry: Entry) -> bool:
    """Whether the recorded process itself still runs."""
    return entry.identity is not None and alive(entry.identity)


async def end_recorded(entries: Iterable[Entry], home: Household) -> tuple[int, ...]:
    """End recorded processes with their trees; numbers of those that could not be ended.

    A process whose orchestrator was killed between spawning it and recording its number is found
    by its token, and so is what a dead process left behind. Only the tokens of these entries are
    looked for.
    """
    rows = tuple(entries)
    if not rows:
        return ()
    children = []
    for entry in rows:
        if living(entry):
            try:
                children.append(home.adopt(entry))
            except ProcessLookupError:
                continue
    if children:
        _log.info("ending processes of an earlier run: %s", [child.pid for child in children])
    ends = await asyncio.gather(*(child.end(signal.SIGTERM, _GRACE) for child in children))
    left = {pid for pids in ends for pid in pids}
    return tuple(left | await _end_bearers(frozenset(entry.token for entry in rows)))


async def _end_bearers(tokens: frozenset[str]) -> set[int]:
    for _ in range(5):  # a tree that goes on forking while it is killed
        found = [
            Identity(stat.pid, stat.created, boot_mark())
            for stats in bearers(tokens).values()
            for stat in stats
        ]
        if not found:
            return set()
        for identity in found:
            send(identity, signal.SIGKILL)
        await gone(found, 2.0)
    return {identity.pid for identity in found if alive(identity)}
