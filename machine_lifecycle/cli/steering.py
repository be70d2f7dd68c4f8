"""``start``, ``restart``, ``signal``, ``reload``: change what the running machine runs."""

from __future__ import annotations

from typing import Any

import click

from machine_lifecycle.cli.output import emit_json
from machine_lifecycle.cli.talking import PROCESS, SIGNAL, ask

__all__ = ["reload", "restart", "signal_process", "start"]


@click.command()
@click.argument("names", nargs=-1, required=True, type=PROCESS, metavar="NAME...")
@click.pass_context
def start(ctx: click.Context, names: tuple[str, ...]) -> None:
    """Start processes that are stopped, have ended or were given up."""
    for name in names:
        ask(ctx, lambda client, name=name: client.call("start_process", name=name))  # type: ignore[misc]  # a bound default
        click.echo(f"{name} starts; see: machine-lifecycle ps")


@click.command()
@click.argument("names", nargs=-1, required=True, type=PROCESS, metavar="NAME...")
@click.pass_context
def restart(ctx: click.Context, names: tuple[str, ...]) -> None:
    """Restart processes of the running machine, one after another."""
    for name in names:
        ask(ctx, lambda client, name=name: client.call("restart", name=name))  # type: ignore[misc]  # a bound default
        click.echo(f"{name} restarts; see: machine-lifecycle ps")


@click.command("signal")
@click.argument("name", type=PROCESS)
@click.argument("signal", type=SIGNAL)
@click.pass_context
def signal_process(ctx: click.Context, name: str, signal: str) -> None:
    """Send a signal to one process: HUP, SIGUSR1, 10. What it started hears nothing."""
    ask(ctx, lambda client: client.call("signal_process", name=name, signal=signal))
    click.echo(f"{name} was sent {signal}")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def reload(ctx: click.Context, as_json: bool) -> None:  # noqa: FBT001 - click passes options so
    """Have the running machine read its .env file and its service mapping anew.

    Only processes that the new settings change are started anew; what is the same runs on. The
    environment of a running process can't change: what is set there counts as before.
    """
    done: dict[str, Any] = ask(ctx, lambda client: client.call("reload"))
    if as_json:
        emit_json(done)
        return
    for word in ("removed", "changed", "added"):
        if done[word]:
            click.echo(f"{word}: {', '.join(done[word])}")
    click.echo(f"left alone: {', '.join(done['same']) or 'none'}")
    if done["later"]:
        click.echo(f"from the next start of the machine on: {', '.join(done['later'])}")
