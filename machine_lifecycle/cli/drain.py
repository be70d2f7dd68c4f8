"""``drain`` and ``undrain``: whether a machine takes further jobs."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import click

from machine_lifecycle.cli.queue import open_queue
from machine_lifecycle.cli.talking import ask
from machine_lifecycle.model.text import counted

if TYPE_CHECKING:
    from machine_lifecycle.jobs.client import JobQueue

__all__ = ["drain", "undrain"]

_OTHER_MACHINE = click.option(
    "--machine", "machine_id", metavar="ID", help="Another machine of the fleet, by Redis."
)


@click.command()
@_OTHER_MACHINE
@click.pass_context
def drain(ctx: click.Context, machine_id: str | None) -> None:
    """Let running jobs end and take no further ones.

    With --machine it is the queue that gives that machine no more jobs, from this moment on, until
    an undrain: also when the machine can't be reached, is not up yet or starts anew.
    """
    if machine_id:
        _order(ctx, lambda queue: queue.drain(machine_id))
    else:
        ask(ctx, lambda client: client.call("drain"))
    again = f" --machine {shlex.quote(machine_id)}" if machine_id else ""
    click.echo(f"draining; take jobs again with: machine-lifecycle undrain{again}")


@click.command()
@_OTHER_MACHINE
@click.pass_context
def undrain(ctx: click.Context, machine_id: str | None) -> None:
    """Take jobs again after a drain."""
    if machine_id:
        _order(ctx, lambda queue: queue.undrain(machine_id))
    else:
        ask(ctx, lambda client: client.call("undrain"))
    click.echo("taking jobs again")


def _order(ctx: click.Context, order: Callable[[JobQueue], Awaitable[int]]) -> None:
    async def work() -> int:
        async with open_queue(ctx) as queue:
            return await order(queue)

    told = asyncio.run(work())
    workers = counted(told, "worker")
    click.echo(f"told {workers} of it" if told else "no worker of it is up: the order is kept")
