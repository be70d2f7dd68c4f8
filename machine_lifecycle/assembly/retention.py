"""Keeps what services write into their own folders within bounds: at boot, and after jobs end."""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path

import attrs

from machine_lifecycle.lifecycle import events
from machine_lifecycle.lifecycle.core import Lifecycle
from machine_lifecycle.model.settings import Settings
from machine_lifecycle.system.retention import Rules, sweep
from machine_lifecycle.system.tasks import end_tasks

__all__ = ["Retention", "rules_of"]

_FOLDERS = ("output", "temp")
_APART = 300.0
"""Seconds between two sweeps: a walk over thousands of files is not for each job."""
_LEAST_YOUNG = 600.0
"""Seconds in which no file is removed, however short jobs may be."""
_log = logging.getLogger("machine_lifecycle.machine")


def rules_of(settings: Settings) -> Rules:
    """What the settings say. No job runs longer than it may, so what is older than that is no
    running job's.
    """
    return Rules(
        max_age=settings.output_keep_days * 86400,
        max_bytes=round(settings.output_keep_gb * (1 << 30)),
        young=max(_LEAST_YOUNG, settings.job_timeout_minutes * 60),
    )


@attrs.define(kw_only=True, eq=False)
class Retention:
    """Sweeps the folders of every instance of the plan, in a thread, one sweep at a time."""

    lifecycle: Lifecycle
    rules: Rules
    _swept: float = attrs.field(init=False, default=float("-inf"))
    _task: asyncio.Task[None] | None = attrs.field(init=False, default=None)
    _said: dict[str, tuple[str, ...]] = attrs.field(init=False, factory=dict)

    def hear(self, event: events.Event) -> None:
        """At Ready, and when a job has ended, at most every five minutes."""
        now = time.monotonic()
        if self._task is not None and not self._task.done():
            return
        if not isinstance(event, events.MachineReady) and now - self._swept < _APART:
            return
        if not self.rules.max_age and not self.rules.max_bytes:
            return
        self._swept = now
        self._task = asyncio.create_task(self._all(), name="retention")

    async def close(self) -> None:
        """Sweep no more; a folder that is being swept is left to its thread."""
        if self._task is not None:
            await end_tasks(self._task)

    async def _all(self) -> None:
        plan = self.lifecycle.record.plan
        for instance in plan.instances if plan else ():
            await self._sweep(instance.id, instance.data)

    async def _sweep(self, instance: str, data: Path) -> None:
        folders = [data / name for name in _FOLDERS]
        swept = await asyncio.to_thread(sweep, folders, self.rules, time.time())
        if swept.removed:
            _log.info(
                "%s: %d old files removed, %d bytes left", instance, swept.removed, swept.left
            )
        if swept.problems != self._said.get(instance, ()):
            self._said[instance] = swept.problems
            for problem in swept.problems:
                _log.warning("%s: can't be tidied up: %s", instance, problem)
