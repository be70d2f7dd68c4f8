"""``settings``: the effective settings, and where each was written."""

from __future__ import annotations

import click

from machine_lifecycle.cli.environment import open_settings
from machine_lifecycle.cli.output import console, emit_json, table

__all__ = ["settings"]


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--set", "only_set", is_flag=True, help="Only those that are not at their default.")
@click.pass_context
def settings(ctx: click.Context, as_json: bool, only_set: bool) -> None:  # noqa: FBT001 - click
    """Show the effective settings and where each came from. Secrets are masked."""
    from machine_lifecycle.config.settings import shown  # noqa: PLC0415 - loads python-dotenv
    from machine_lifecycle.model.settings import setting_info  # noqa: PLC0415

    loaded = open_settings(ctx)
    values = shown(loaded.settings)
    infos = [
        info
        for info in setting_info()
        if not only_set or loaded.origins[info.field].kind != "default"
    ]
    if as_json:
        rows = {
            info.env[0]: {
                "value": values[info.field],
                "origin": str(loaded.origins[info.field]),
                "secret": info.secret,
                "help": info.help,
            }
            for info in infos
        }
        emit_json({"settings": rows, "warnings": list(loaded.warnings)})
        return
    from rich.markup import escape  # noqa: PLC0415 - 60 ms that --json does without

    table(
        ("variable", "value", "origin"),
        [
            (info.env[0], escape(values[info.field]), str(loaded.origins[info.field]))
            for info in infos
        ],
        empty="every setting is at its default",
    )
    for warning in loaded.warnings:
        console(stderr=True).print(f"warning: {warning}", markup=False)
