"""A GPU whose memory does as a test says, and a clock that goes on only when somebody sleeps."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterable

from machine_lifecycle.system.nvml import GpuMemory

__all__ = ["StillClock", "readings"]


class StillClock:
    """A clock that jumps to whatever is slept for. Speaks ``model.ports.Clock``."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        """Seconds since it was made."""
        return self.now

    def wall(self) -> float:
        """The same."""
        return self.now

    async def sleep_until(self, deadline: float) -> None:
        """Be there at once; others get their turn."""
        self.now = max(self.now, deadline)
        await asyncio.sleep(0)


def readings(
    used: Iterable[int | None], total: int = 100, holders: tuple[tuple[int, int], ...] = ()
) -> Callable[[str], GpuMemory | None]:
    """Speaks as ``system.nvml.memory_of``: each reading in turn, the last one for ever."""
    series = list(used)
    turn = itertools.chain(series, itertools.repeat(series[-1]))

    def read(uuid: str) -> GpuMemory | None:
        value = next(turn) if uuid.startswith("GPU-") else None
        return None if value is None else GpuMemory(used=value, total=total, holders=holders)

    return read
