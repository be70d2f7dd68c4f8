"""``submit`` and ``jobs``: the queue from a terminal."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from machine_lifecycle.cli.job_orders import cancel, retry
from machine_lifecycle.cli.output import cell, console, emit_json, human_seconds, table
from machine_lifecycle.cli.queue import age, open_queue, record_json
from machine_lifecycle.cli.watching import ProgressLines
from machine_lifecycle.model.wire import to_json_value

if TYPE_CHECKING:
    from machine_lifecycle.jobs.client import JobQueue
    from machine_lifecycle.jobs.records import JobRecord
    from machine_lifecycle.jobs.why import Why

__all__ = ["follow", "jobs", "save_outputs", "submit"]

_FAILED = 1
_LIMIT = click.option(
    "--limit", default=20, type=click.IntRange(1), help="At most so many; 20 if not said."
)
_PREVIEWS = click.option(
    "--previews",
    type=click.Path(file_okay=False, path_type=Path),
    help="Save pictures of what is about to be made here, while it is made.",
)


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--service", default="simulation", show_default=True, help="What does the job.")
@click.option("--priority", type=click.IntRange(0, 100), default=50, show_default=True)
@click.option("--count", type=click.IntRange(1), default=1, help="Submit it so many times.")
@click.option("--watch/--no-watch", default=None, help="Follow it to its end; implied by --out.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Save outputs here.")
@_PREVIEWS
@click.option("--timeout-minutes", type=float, help="Minutes that a run may take.")
@click.option(
    "--requirements",
    metavar="JSON",
    callback=lambda _ctx, _option, text: _object(text),
    help="What the worker must have; an object, such as "
    '{"node_packs": ["rgthree-comfy"], "gpu_memory_gb": 24}.',
)
@click.option(
    "--max-retries",
    type=click.IntRange(1),
    default=3,
    show_default=True,
    help="Runs that it may take in all, if they fail and the next may end better.",
)
@click.option(
    "--key",
    default="",
    metavar="TEXT",
    help="Submit it once: a job that was submitted with this key before is taken for this one.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def submit(  # noqa: PLR0917 - click passes options by name
    ctx: click.Context,
    file: Path,
    service: str,
    priority: int,
    count: int,
    watch: bool | None,  # noqa: FBT001 - click
    out: Path | None,
    previews: Path | None,
    timeout_minutes: float | None,
    requirements: dict[str, Any] | None,
    max_retries: int,
    key: str,
    as_json: bool,  # noqa: FBT001 - click
) -> None:
    """Put FILE into the queue: a graph in ComfyUI's API form, or a whole payload.

    With --watch its progress is shown and what it makes is saved to ./outputs; nothing is
    overwritten. Ends with status 1 if a watched job failed.

    \b
      machine-lifecycle submit workflow.json --watch
      machine-lifecycle submit workflow.json --service comfyui --count 10
    """  # noqa: D301 - click reads the escape
    from machine_lifecycle.jobs.files import read_payload  # noqa: PLC0415 - only when it runs

    if key and count > 1:
        raise click.UsageError("--key names one job, and --count asks for several")
    payload = read_payload(file)
    watched = watch or (watch is None and (out is not None or previews is not None))

    async def work() -> list[dict[str, Any]]:
        async with open_queue(ctx) as client:
            ids = [
                await client.submit(
                    payload,
                    service_required=service,
                    priority=priority,
                    timeout_minutes=timeout_minutes,
                    requirements=requirements,
                    max_retries=max_retries,
                    idempotency_key=key,
                )
                for _ in range(count)
            ]
            if not watched:
                return [{"id": job_id, "status": "pending"} for job_id in ids]
            return await _watched(client, ids, out, quiet=as_json, previews=previews)

    _conclude(asyncio.run(work()), single=count == 1, as_json=as_json)


async def _watched(
    client: JobQueue,
    ids: Sequence[str],
    out: Path | None,
    *,
    quiet: bool,
    previews: Path | None,
) -> list[dict[str, Any]]:
    """Follow jobs to their ends and save what they made."""
    return [
        record_json(record) | {"saved": await save_outputs(client, record, out or Path("outputs"))}
        for record in await follow(client, list(ids), quiet=quiet, previews=previews)
    ]


def _conclude(results: list[dict[str, Any]], *, single: bool, as_json: bool) -> None:
    if as_json:
        emit_json(results[0] if single else results)
    else:
        for result in results:
            _tell(result)
    if any(result["status"] not in {"completed", "pending"} for result in results):
        sys.exit(_FAILED)


def _object(text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    try:
        found = json.loads(text)
    except ValueError as error:
        raise click.BadParameter(f"no JSON: {error}") from error
    if not isinstance(found, dict):
        raise click.BadParameter('no JSON object, such as {"node_packs": ["rgthree-comfy"]}')
    return found


def _tell(result: dict[str, Any]) -> None:
    if result["status"] == "pending":
        click.echo(result["id"])
        return
    if result["status"] != "completed":
        click.echo(f"job {result['id']} {result['status']}: {result['error']}", err=True)
        for line in (result.get("error_details") or {}).get("context", ()):
            click.echo(f"  {line}", err=True)
    for path in result["saved"]:
        click.echo(path)


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


class _ListsByDefault(click.Group):
    """A group that lists when no command is named: ``jobs``, ``jobs --json``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the command in where it was left out."""
        named = bool(args) and not args[0].startswith("-")
        if not named and not set(args) & set(ctx.help_option_names):
            args = ["list", *args]
        return super().parse_args(ctx, args)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Know ``ls`` for ``list``."""
        return super().get_command(ctx, "list" if cmd_name == "ls" else cmd_name)


@click.group(cls=_ListsByDefault)
def jobs() -> None:
    """List the queue's jobs, show or watch them, cancel them, try them again.

    Without a command it lists, with the options of `jobs list`, for which `ls` will do.
    """


@jobs.command("list")
@click.option(
    "--status",
    type=click.Choice(["active", "pending", "completed", "failed", "cancelled", "dead"]),
    help="Only these.",
)
@_LIMIT
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def list_jobs(ctx: click.Context, status: str | None, limit: int, as_json: bool) -> None:  # noqa: FBT001 - click
    """List jobs: running, waiting, ended."""

    async def work() -> tuple[tuple[JobRecord, ...], dict[str, int]]:
        async with open_queue(ctx) as client:
            return await client.list(status=status or "", limit=limit), await client.counts()

    records, counts = asyncio.run(work())
    if as_json:
        emit_json({"counts": counts, "jobs": [record_json(record) for record in records]})
        return
    rows = [
        (
            cell(record.id),
            cell(record.status),
            cell(record.service_required),
            str(record.priority),
            f"{record.progress:.0f}%",
            f"{record.retry_count + 1}/{record.max_retries}",
            human_seconds(age(record.created_ms)),
            cell(record.error if record.status == "failed" else record.worker_id or record.error),
        )
        for record in records
    ]
    columns = ("id", "status", "service", "prio", "done", "run", "age", "worker or error")
    table(columns, rows)
    click.echo(", ".join(f"{number} {kind}" for kind, number in counts.items()))


@jobs.command()
@_LIMIT
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def dead(ctx: click.Context, limit: int, as_json: bool) -> None:  # noqa: FBT001 - click
    """List jobs that were set aside.

    Nobody can ever run them, or their runs ended their workers; see `jobs show`, `jobs retry`.
    """
    ctx.invoke(list_jobs, status="dead", limit=limit, as_json=as_json)


@jobs.command()
@click.argument("job_ids", nargs=-1, required=True)
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Save outputs here.")
@_PREVIEWS
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def watch(
    ctx: click.Context,
    job_ids: tuple[str, ...],
    out: Path | None,
    previews: Path | None,
    as_json: bool,  # noqa: FBT001 - click
) -> None:
    """Follow jobs to their ends; save what they make.

    What became of them before is told first. Ends with status 1 if one failed.
    """

    async def work() -> list[dict[str, Any]]:
        async with open_queue(ctx) as client:
            return await _watched(client, job_ids, out, quiet=as_json, previews=previews)

    _conclude(asyncio.run(work()), single=len(job_ids) == 1, as_json=as_json)


@jobs.command()
@click.argument("job_id")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def show(ctx: click.Context, job_id: str, as_json: bool) -> None:  # noqa: FBT001 - click
    """Show everything known of one job."""

    async def work() -> JobRecord:
        async with open_queue(ctx) as client:
            return await client.get(job_id)

    facts = record_json(asyncio.run(work()))
    if as_json:
        emit_json(facts)
        return
    for name, value in facts.items():
        if value not in ("", None, {}):
            click.echo(f"{name:>16}  {value}")


@jobs.command()
@click.argument("job_id")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def why(ctx: click.Context, job_id: str, as_json: bool) -> None:  # noqa: FBT001 - click
    """Say why a job does not run: what each living worker lacks for it."""

    async def work() -> Why:
        async with open_queue(ctx) as client:
            return await client.why(job_id)

    found = asyncio.run(work())
    if as_json:
        emit_json(to_json_value(found))
        return
    for line in found.words:
        click.echo(line)


jobs.add_command(cancel)
jobs.add_command(retry)
