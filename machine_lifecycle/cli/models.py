"""``models``: the list of models, and how each of them does."""

from __future__ import annotations

import asyncio

import click

from machine_lifecycle.cli.environment import open_paths, open_settings
from machine_lifecycle.cli.output import emit_json, human_bytes, table

__all__ = ["models"]


@click.command()
@click.option("--pin", is_flag=True, help="Write missing digests and sizes into the list.")
@click.option("--dry-run", is_flag=True, help="With --pin: show what would be written.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def models(ctx: click.Context, pin: bool, dry_run: bool, as_json: bool) -> None:  # noqa: FBT001 - click
    """Show the models of MODELS_MANIFEST: which are there, partly there, or missing.

    No file is read: that is for verify. A model is unproved while a file has its name of which
    nobody knows yet whether it is the model. With --pin, models without a `sha256` get that of the
    file that is there, or the one that their server tells without sending them (Hugging Face does).
    """
    # Imported here: it loads the mapping and the plug-ins.
    from machine_lifecycle.assembly.listed_models import ListedModels, state_value  # noqa: PLC0415

    loaded, paths = open_settings(ctx), open_paths(ctx)
    listed = ListedModels(loaded.settings, paths, loaded.variables)
    if not pin:
        states = listed.states()
        if as_json:
            emit_json([state_value(one) for one in states])
            return
        rows = [
            (
                one.entry.target,
                one.word,
                human_bytes(one.have) if one.have else "",
                human_bytes(one.entry.size) if one.entry.size else "",
                one.entry.sha256[:12],
                "yes" if one.entry.required else "",
            )
            for one in states
        ]
        columns = ("model", "state", "have", "size", "sha-256", "required")
        table(columns, rows, empty="no models are listed: MODELS_MANIFEST names a list")
        return

    def say(line: str) -> None:
        if not as_json:
            click.echo(line, err=True)

    pinned = asyncio.run(listed.pin(say, write=not dry_run))
    if as_json:
        emit_json(pinned.value())
        return
    for target, (sha256, size) in pinned.found.items():
        click.echo(f"+ {target} {sha256}{f', {human_bytes(size)}' if size else ''}")
    for target, why in pinned.unknown.items():
        click.echo(f"! {target}: {why}")
    would = "would be" if dry_run else "are"
    click.echo(f"{len(pinned.found)} {would} pinned in {pinned.path}")
