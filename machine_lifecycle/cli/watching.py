"""Jobs that are watched from a terminal: their progress, what they made, how they ended."""

from __future__ import annotations

import asyncio
import json
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from machine_lifecycle.cli.output import console, emit_json
from machine_lifecycle.cli.queue import record_json

if TYPE_CHECKING:
    from machine_lifecycle.jobs.client import JobQueue
    from machine_lifecycle.jobs.records import JobEvent, JobRecord

__all__ = ["PREVIEWS", "ProgressLines", "conclude", "follow", "save_outputs", "watched"]

_FAILED = 1
_BETWEEN = 1.0
"""Seconds between two lines of mere progress. What a job goes through is told each time."""
PREVIEWS = click.option(
    "--previews",
    type=click.Path(file_okay=False, path_type=Path),
    help="Save pictures of what is about to be made here, while it is made.",
)


async def watched(
    client: JobQueue,
    ids: Sequence[str],
    out: Path | None,
    *,
    quiet: bool,
    previews: Path | None,
) -> list[dict[str, Any]]:
    """Follow jobs to their ends and save what they made."""
    try:
        records = await follow(client, list(ids), quiet=quiet, previews=previews)
    except asyncio.CancelledError:  # Ctrl+C
        words = shlex.join(ids)
        click.echo(
            f"no longer watched, and going on: machine-lifecycle jobs watch {words}", err=True
        )
        click.echo(f"or have them end: machine-lifecycle jobs cancel {words}", err=True)
        raise
    return [
        record_json(record) | {"saved": await save_outputs(client, record, out or Path("outputs"))}
        for record in records
    ]


async def follow(
    client: JobQueue, ids: list[str], *, quiet: bool, previews: Path | None = None
) -> list[JobRecord]:
    """Show progress until all have ended; their records, in order."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: PLC0415 - only when a job is watched

    from machine_lifecycle.jobs.files import save_preview  # noqa: PLC0415 - only when a job is watched

    shown = sys.stderr.isatty() and not quiet
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
        TextColumn("[dim]{task.fields[message]}", markup=True),
        console=console(stderr=True),
        disable=not shown,
    )

    async def one(job_id: str) -> JobRecord:
        from rich.markup import escape  # noqa: PLC0415 - see above

        # Ids begin with the time: those of one minute begin alike.
        row = bar.add_task(job_id[-8:], total=100, message="")
        record = None
        lines = ProgressLines(job_id)
        async for event in client.watch(job_id, previews=previews is not None, replay=True):
            if event.preview and previews:
                save_preview(event.preview, previews, job_id)
                continue
            if not shown and not quiet:
                lines.tell(event)
            words = f"{event.kind}: {event.message}" if event.message else event.kind
            bar.update(row, completed=event.percent, message=escape(words))
            record = event.job or record
        if record is None or not record.ended:
            record = await client.get(job_id)
        return record

    with bar:
        return list(await asyncio.gather(*(one(job_id) for job_id in ids)))


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


async def save_outputs(client: JobQueue, record: JobRecord, folder: Path) -> list[str]:
    """Save a completed job's files; their paths, and references of those too large for Redis."""
    from machine_lifecycle.jobs.files import save  # noqa: PLC0415 - only when a job is watched

    if record.status != "completed":
        return []
    return [
        str(save(output, folder, record.id)) if output.data else output.reference or output.name
        for output in await client.outputs(record)
        if not output.temporary
    ]


def conclude(results: list[dict[str, Any]], *, single: bool, as_json: bool) -> None:
    """Say what became of jobs; ends the program with status 1 if one did not do well."""
    if as_json:
        emit_json(results[0] if single else results)
    else:
        for result in results:
            _complain(result)
        # At once: where nothing can be written, the ids of all are told with that.
        if lines := [line for result in results for line in _lines(result)]:
            click.echo("\n".join(lines))
    if any(result["status"] not in {"completed", "pending"} for result in results):
        sys.exit(_FAILED)


def _complain(result: dict[str, Any]) -> None:
    if result["status"] not in {"completed", "pending"}:
        click.echo(f"job {result['id']} {result['status']}: {result['error']}", err=True)
        for line in (result.get("error_details") or {}).get("context", ()):
            click.echo(f"  {line}", err=True)


def _lines(result: dict[str, Any]) -> list[str]:
    """The id of a job that is not watched; else what it made: files, or words."""
    if result["status"] == "pending":
        return [result["id"]]
    data = (result.get("result") or {}).get("data")
    if data and not result["saved"]:
        return [json.dumps(data, indent=2, ensure_ascii=False)]
    return list(result["saved"])
