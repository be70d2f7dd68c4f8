"""Progress of a run on its way into the queue."""

from __future__ import annotations

import asyncio

from machine_lifecycle.jobs.brevity import brief
from machine_lifecycle.jobs.claims import Claimed
from machine_lifecycle.jobs.delay import Delay
from machine_lifecycle.jobs.functions import QueueFunctions
from machine_lifecycle.jobs.records import preview_message
from machine_lifecycle.model.jobs import Progress
from machine_lifecycle.system import redis_keys as keys
from machine_lifecycle.system.tasks import end_tasks

__all__ = ["Reports"]

_FIRST_REPORT = 0.1
"""Seconds until the start of a run is reported: one that is over at once needs no report of it."""

_LARGEST_PREVIEW = 1024 * 1024
"""Bytes of a picture that is shown while a job runs."""


class Reports:
    """Tells how far runs are; pictures only while somebody looks."""

    def __init__(self, functions: QueueFunctions, worker_id: str) -> None:
        self._functions = functions
        self._worker_id = worker_id
        self.first: Delay = Delay(_FIRST_REPORT)
        """Whose first report is to come."""
        self.endings: set[asyncio.Task[None]] = set()
        """Ends of those who report, until they have ended."""

    def end(self, reporter: asyncio.Task[None]) -> None:
        """End who reports of a run that is over. Nobody waits for it: a report that is on its way
        comes too late, and is refused.
        """
        ending = asyncio.create_task(end_tasks(reporter))
        self.endings.add(ending)
        ending.add_done_callback(self.endings.discard)

    async def tell(self, claimed: Claimed, progress: Progress) -> str:
        """Tell it; the answer is ``ok``, ``cancel`` or ``lost``."""
        answer = await self._functions.call(
            "ml1_progress",
            self._worker_id,
            claimed.id,
            claimed.fence,
            round(min(max(progress.fraction, 0.0), 1.0) * 100),
            brief(progress.message),
            progress.step or "",
            progress.steps or 0,
        )
        if progress.preview and len(progress.preview.data) <= _LARGEST_PREVIEW:
            message = preview_message(progress.preview)
            await self._functions.tell(keys.preview(claimed.id), message)
        return str(answer)
