"""``diagram``: the state diagram, from the table."""

from __future__ import annotations

import click

from machine_lifecycle.states.diagram import mermaid

__all__ = ["diagram"]


@click.command()
@click.option("--complete", is_flag=True, help="Draw every row, not the shared ones once.")
def diagram(complete: bool) -> None:  # noqa: FBT001 - click passes options so
    """Print the state diagram as Mermaid text.

    Paste it into any Markdown page or https://mermaid.live.
    """
    click.echo(mermaid(complete=complete), nl=False)
