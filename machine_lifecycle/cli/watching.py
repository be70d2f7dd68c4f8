"""A job's progress as lines, where no bar can be drawn: a pipe, a file, a container's log."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from machine_lifecycle.jobs.records import JobEvent

__all__ = ["ProgressLines"]

_BETWEEN = 1.0
"""Seconds between two lines of mere progress. What a job goes through is told each time."""


class ProgressLines:
    """Writes what happens to one job to stderr, a line now and then."""

    def __init__(self, job_id: str, *, now: Callable[[], float] = time.monotonic) -> None:
        self._job_id = job_id
        self._now = now
        self._kind = ""
        self._told = 0.0

    def tell(self, event: JobEvent) -> None:
        """Write a line, unless one was written a moment ago and this is only more progress."""
        now = self._now()
        if event.kind == self._kind and now - self._told < _BETWEEN:
            return
        self._kind, self._told = event.kind, now
        by = f" by {event.worker_id}" if event.kind == "claimed" and event.worker_id else ""
        message = f": {event.message}" if event.message else ""
        # Ids begin with the time: those of one minute begin alike.
        line = f"job {self._job_id[-8:]} {event.percent:3.0f}% {event.kind}{by}{message}"
        click.echo(line, err=True)
