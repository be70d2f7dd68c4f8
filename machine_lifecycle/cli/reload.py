"""``reload``: have the running machine read its settings anew."""

from __future__ import annotations

from typing import Any

import click

from machine_lifecycle.cli.output import emit_json
from machine_lifecycle.cli.talking import ask

__all__ = ["reload"]


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
