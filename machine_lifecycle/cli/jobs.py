"""``jobs``: list the queue's jobs, show or watch them, cancel them, try them again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import click

from machine_lifecycle.cli.did_you_mean import GroupThatHints
from machine_lifecycle.cli.output import cell, emit_json, human_seconds, table
from machine_lifecycle.cli.queue import age, open_queue, record_json
from machine_lifecycle.cli.watching import PREVIEWS, conclude, watched
from machine_lifecycle.errors import ConfigurationError, as_one
from machine_lifecycle.model.wire import to_json_value

if TYPE_CHECKING:
    from machine_lifecycle.jobs.client import JobQueue
    from machine_lifecycle.jobs.records import JobRecord
    from machine_lifecycle.jobs.why import Why

__all__ = ["jobs"]

_LIMIT = click.option(
    "--limit", default=20, type=click.IntRange(1), help="At most so many; 20 if not said."
)
_JOBS = click.argument("job_ids", metavar="JOB_ID...", nargs=-1, required=True)
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


class _ListsByDefault(GroupThatHints):
    """A group that lists when no command is named: ``jobs``, ``jobs --json``."""

    elsewhere: ClassVar[Mapping[str, str]] = {
        "delete": "cancel",
        "kill": "cancel",
        "rm": "cancel",
        "stop": "cancel",
        "describe": "show",
        "get": "show",
        "info": "show",
        "view": "show",
        "follow": "watch",
        "rerun": "retry",
    }

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
@_JSON
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
    columns = ("id", "status", "service", "priority", "done", "run", "age", "worker or error")
    table(columns, rows, empty="no such jobs" if status else "no jobs")
    click.echo(", ".join(f"{number} {kind}" for kind, number in counts.items()))


@jobs.command()
@_LIMIT
@_JSON
@click.pass_context
def dead(ctx: click.Context, limit: int, as_json: bool) -> None:  # noqa: FBT001 - click
    """List jobs that were set aside.

    Nobody can ever run them, or their runs ended their workers; see `jobs show`, `jobs retry`.
    """
    ctx.invoke(list_jobs, status="dead", limit=limit, as_json=as_json)


@jobs.command()
@_JOBS
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Save outputs here.")
@PREVIEWS
@_JSON
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
            return await watched(client, job_ids, out, quiet=as_json, previews=previews)

    conclude(asyncio.run(work()), single=len(job_ids) == 1, as_json=as_json)


@jobs.command()
@click.argument("job_id")
@_JSON
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
        if value in ("", None, {}, []):
            continue
        if isinstance(value, dict | list):  # many lines, to be read and copied as they are
            click.echo(f"{name:>16}\n{json.dumps(value, indent=2, ensure_ascii=False)}")
        else:
            click.echo(f"{name:>16}  {value}")


@jobs.command()
@click.argument("job_id")
@_JSON
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


@jobs.command()
@_JOBS
@click.option("--reason", default="cancelled by the user", show_default=True)
@_JSON
@click.pass_context
def cancel(ctx: click.Context, job_ids: tuple[str, ...], reason: str, as_json: bool) -> None:  # noqa: FBT001 - click
    """Cancel jobs, waiting or running."""

    async def one(queue: JobQueue, job_id: str) -> str:
        return await queue.cancel(job_id, reason)

    asyncio.run(_each(ctx, job_ids, one, as_json=as_json))


@jobs.command()
@_JOBS
@_JSON
@click.pass_context
def retry(ctx: click.Context, job_ids: tuple[str, ...], as_json: bool) -> None:  # noqa: FBT001 - click
    """Run failed or cancelled jobs once more, in the place they had."""

    async def one(queue: JobQueue, job_id: str) -> str:
        await queue.retry(job_id)
        return "pending"

    asyncio.run(_each(ctx, job_ids, one, as_json=as_json))


async def _each(
    ctx: click.Context,
    job_ids: Sequence[str],
    ask: Callable[[JobQueue, str], Awaitable[str]],
    *,
    as_json: bool,
) -> None:
    """Ask it of each job, and tell the answers; what is refused about one holds up no other.

    Raises:
        LifecycleError: It was refused about some.
    """
    answers, refused = {}, []
    async with open_queue(ctx) as queue:
        for job_id in dict.fromkeys(job_ids):
            try:
                answers[job_id] = await ask(queue, job_id)
            except ConfigurationError as error:
                refused.append(error)
            else:
                if not as_json:
                    click.echo(f"{job_id} {answers[job_id]}")
    if as_json:
        emit_json(answers)
    if refused:
        raise as_one("jobs", refused)
