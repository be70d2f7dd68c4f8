"""``jobs cancel`` and ``jobs retry``: what is asked of jobs, several at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

import click

from machine_lifecycle.cli.output import emit_json
from machine_lifecycle.cli.queue import open_queue
from machine_lifecycle.errors import ConfigurationError, Problems

if TYPE_CHECKING:
    from machine_lifecycle.jobs.client import JobQueue

__all__ = ["cancel", "retry"]

_JOBS = click.argument("job_ids", metavar="JOB_ID...", nargs=-1, required=True)
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.command()
@_JOBS
@click.option("--reason", default="cancelled by the user", show_default=True)
@_JSON
@click.pass_context
def cancel(ctx: click.Context, job_ids: tuple[str, ...], reason: str, as_json: bool) -> None:  # noqa: FBT001 - click
    """Cancel jobs, waiting or running."""

    async def one(queue: JobQueue, job_id: str) -> str:
        return await queue.cancel(job_id, reason)

    asyncio.run(_each(ctx, job_ids, one, as_json=as_json))


@click.command()
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
        Problems: It was refused about some.
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
    if len(refused) == 1:
        raise refused[0]
    if refused:
        raise Problems(subject="jobs", errors=tuple(refused))
