"""``stop``: end the running machine, or single processes of it."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing, suppress
from typing import Any

import click

from machine_lifecycle.cli.output import human_seconds
from machine_lifecycle.cli.talking import PROCESS, ask, ask_each
from machine_lifecycle.control.client import ControlClient
from machine_lifecycle.control.errors import MachineUnresponsive
from machine_lifecycle.system.errors import MachineNotRunning

__all__ = ["stop"]


@click.command()
@click.argument("names", nargs=-1, type=PROCESS, metavar="[NAME]...")
@click.option("--no-wait", is_flag=True, help="Return at once; only without a name.")
@click.pass_context
def stop(ctx: click.Context, names: tuple[str, ...], no_wait: bool) -> None:  # noqa: FBT001 - click
    """Stop the running machine, or keep some processes of it stopped.

    Without a name it waits until the machine is down. Exit status 3 if no machine runs.
    """
    if names and no_wait:
        raise click.UsageError("--no-wait is for the whole machine: name no process with it")
    if names:
        told = "{name} stops, and stays so until: machine-lifecycle start {name}"
        ask_each(ctx, "stop_process", names, told)
        return
    ask(ctx, lambda client: _stop_machine(client, wait=not no_wait))


async def _stop_machine(client: ControlClient, *, wait: bool) -> None:
    if not wait:
        await client.call("shutdown")
        click.echo("the machine stops")
        return
    began = time.monotonic()
    async with aclosing(client.stream("events")) as events:
        first = asyncio.ensure_future(anext(events, None))
        await client.call("shutdown")
        # The stream ends when the machine is down, with an end mark or because the machine, and
        # its socket with it, is gone.
        with suppress(MachineUnresponsive, MachineNotRunning):
            event = await first
            while event is not None:
                _tell_stop(event)
                event = await anext(events, None)
    click.echo(f"stopped in {human_seconds(time.monotonic() - began)}")


def _tell_stop(event: dict[str, Any]) -> None:
    if event.get("kind") == "changed":
        click.echo(f"{event.get('source')} -> {event.get('target')}")
    elif event.get("kind") == "process_changed":
        process = event.get("process", {})
        if process.get("state") in ("stopped", "exited", "fatal"):
            click.echo(f"  {process.get('name')} ended")
