"""``logs``: what processes wrote."""

from __future__ import annotations

from contextlib import aclosing, suppress

import click

from machine_lifecycle.cli.talking import PROCESS, ask
from machine_lifecycle.cli.times import SINCE
from machine_lifecycle.control.client import ControlClient

__all__ = ["logs"]

_COLOURS = ("cyan", "green", "yellow", "magenta", "blue", "bright_cyan", "bright_green")


@click.command()
@click.argument("names", nargs=-1, type=PROCESS, metavar="[NAME]...")
@click.option("-f", "--follow", is_flag=True, help="Go on with new lines until interrupted.")
@click.option(
    "-n",
    "--lines",
    type=click.IntRange(0, 100_000),
    default=50,
    show_default=True,
    help="Lines of each log to begin with.",
)
@click.option(
    "--since",
    type=SINCE,
    help="All lines since then instead: 90s, 10m, 2h, 1d ago, or a time such as 2026-01-31T08:00.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def logs(  # noqa: PLR0917 - click passes options by name
    ctx: click.Context,
    names: tuple[str, ...],
    follow: bool,  # noqa: FBT001 - click passes options so
    lines: int,
    since: float | None,
    as_json: bool,  # noqa: FBT001 - likewise
) -> None:
    """Show the logs of processes, all of them if none is named.

    Lines of several processes are told in order of time. With --json, one object a line: name,
    line and time (seconds since 1970).
    """

    async def show(client: ControlClient) -> None:
        colours: dict[str, str] = {}
        asked = client.stream("logs", names=list(names), lines=lines, since=since, follow=follow)
        async with aclosing(asked) as items:
            async for item in items:
                _show_line(item, as_json=as_json, prefix=len(names) != 1, colours=colours)

    with suppress(KeyboardInterrupt):  # how a person ends --follow
        ask(ctx, show)


def _show_line(
    item: dict[str, str], *, as_json: bool, prefix: bool, colours: dict[str, str]
) -> None:
    import json  # noqa: PLC0415 - beside its one use

    if as_json:
        click.echo(json.dumps(item, ensure_ascii=False))
        return
    name = item["name"]
    colour = colours.setdefault(name, _COLOURS[len(colours) % len(_COLOURS)])
    click.echo((click.style(f"{name} | ", fg=colour) if prefix else "") + item["line"])
