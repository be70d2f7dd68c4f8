"""What is watched of the host while the machine lives: its disk and its GPUs."""

from __future__ import annotations

import attrs

from machine_lifecycle.assembly.disk import DiskWatch, disk_watch
from machine_lifecycle.assembly.gpu_events import GpuEvents
from machine_lifecycle.assembly.mending import Mending
from machine_lifecycle.assembly.watching import Watching
from machine_lifecycle.lifecycle import events
from machine_lifecycle.lifecycle.core import Lifecycle
from machine_lifecycle.lifecycle.hooks import EventBus
from machine_lifecycle.model.paths import Paths
from machine_lifecycle.model.settings import Settings
from machine_lifecycle.states.names import MachineState

__all__ = ["HostWatch", "host_watch"]


@attrs.define(kw_only=True, eq=False)
class HostWatch:
    """Both, with one beginning and one end."""

    disk: DiskWatch
    gpus: GpuEvents
    lifecycle: Lifecycle

    def start(self, bus: EventBus) -> None:
        """Watch the disk now, and the GPUs once it is known what there is."""
        self.disk.start()
        bus.on(events.Changed, self._moved)

    async def close(self) -> None:
        """Watch nothing more."""
        self.gpus.close()
        await self.disk.close()

    async def _moved(self, event: events.Changed) -> None:
        plan = self.lifecycle.record.plan
        if event.source is MachineState.STARTING and plan is not None:
            self.gpus.start(plan.hardware)


def host_watch(settings: Settings, paths: Paths, watching: Watching, mending: Mending) -> HostWatch:
    """What these settings ask for."""
    return HostWatch(
        disk=disk_watch(settings, paths, watching),
        gpus=GpuEvents(heard=mending.gpu_told),
        lifecycle=mending.lifecycle,
    )
