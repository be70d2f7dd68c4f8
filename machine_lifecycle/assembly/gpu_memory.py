"""Waits, before a process is started anew, until its GPU's memory is free again.

The driver frees the memory of a process that was killed some time after its end, and a service
that starts meanwhile runs out of memory or, worse, takes the little that is left for all there is.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import attrs

from machine_lifecycle.lifecycle.record import Record
from machine_lifecycle.model.hardware import Gpu
from machine_lifecycle.model.ports import Clock
from machine_lifecycle.model.processes import ProcessSpec
from machine_lifecycle.model.services import Instance
from machine_lifecycle.model.settings import Settings
from machine_lifecycle.system.nvml import GpuMemory, memory_of

__all__ = ["GpuMemoryGate", "gpu_memory_gate"]

_LOOK = 0.25
"""Seconds between two looks: the driver tells nobody when memory gets free."""
_STILL = 5.0
"""Seconds without a change after which what is held is somebody else's."""
_SLACK = 0.05
"""Share of a GPU's memory by which a reading may be above the first one: a context of CUDA alone
takes 0.3 to 0.6 GiB, and the driver's own share moves."""
_GIB = 1 << 30
_log = logging.getLogger("machine_lifecycle.machine")


@attrs.define(kw_only=True, eq=False)
class GpuMemoryGate:
    """Stands before each start of a process that has a real GPU.

    Attributes:
        clock: Tells the time.
        read: What a GPU, by its UUID, has in use; ``None`` where the driver doesn't say. Blocks.
        instance: The service that runs as a process, by the process's name.
        limit: Seconds after which the process is started all the same; 0: never wait.
    """

    clock: Clock
    read: Callable[[str], GpuMemory | None]
    instance: Callable[[str], Instance | None]
    limit: float
    _first: dict[str, int] = attrs.field(init=False, factory=dict)

    async def wait(self, spec: ProcessSpec, tell: Callable[[str], None]) -> None:
        """Return when the process may start: at once where nothing is known of an earlier one.

        Args:
            spec: The process.
            tell: Told what is waited for; an empty text when nothing is any more.
        """
        instance = self.instance(spec.name)
        gpu = instance.gpu if instance else None
        if gpu is None or gpu.simulated or not gpu.uuid or not self.limit:
            return
        memory = await asyncio.to_thread(self.read, gpu.uuid)
        if memory is None:
            return
        # Before its first start here, all that is held is somebody else's.
        allowed = self._first.setdefault(spec.name, memory.used) + _SLACK * memory.total
        began = changed = self.clock.monotonic()
        try:
            while memory.used > allowed:
                now = self.clock.monotonic()
                if now - began >= self.limit or now - changed >= _STILL:
                    _log.warning("%s", _held(spec, gpu, memory, now - began))
                    return
                tell(f"memory of GPU {gpu.index} ({_gib(memory.used)} still in use)")
                await self.clock.sleep_until(now + _LOOK)
                before = memory.used
                seen = await asyncio.to_thread(self.read, gpu.uuid)
                if seen is None:
                    return
                memory = seen
                if memory.used != before:
                    changed = self.clock.monotonic()
        finally:
            tell("")


def gpu_memory_gate(settings: Settings, clock: Clock, record: Record) -> GpuMemoryGate:
    """The gate of a machine."""
    return GpuMemoryGate(
        clock=clock, read=memory_of, instance=record.instance, limit=settings.gpu_memory_wait
    )


def _gib(size: int) -> str:
    return f"{size / _GIB:.1f} GiB"


def _held(spec: ProcessSpec, gpu: Gpu, memory: GpuMemory, waited: float) -> str:
    who = ", ".join(f"process {pid}: {_gib(size)}" for pid, size in memory.holders)
    return (
        f"{spec.name}: GPU {gpu.index} has {_gib(memory.used)} of {_gib(memory.total)} in use"
        f" {waited:.0f} s after the process before ended ({who or 'by whom is not known'});"
        " it is started all the same"
    )
