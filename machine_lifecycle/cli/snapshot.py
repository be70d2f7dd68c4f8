"""``snapshot``: what is installed, written down as a list of node packs and its lock."""

from __future__ import annotations

import asyncio
import shlex
from pathlib import Path

import click

from machine_lifecycle.cli.environment import open_paths, open_settings
from machine_lifecycle.cli.output import emit_json

__all__ = ["snapshot"]


@click.command()
@click.argument("nodes", metavar="LIST", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--dry-run", is_flag=True, help="Look only; write nothing.")
@click.option("--force", is_flag=True, help="Overwrite files that are there.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def snapshot(
    ctx: click.Context,
    nodes: Path,
    dry_run: bool,  # noqa: FBT001 - click passes options so
    force: bool,  # noqa: FBT001 - likewise
    as_json: bool,  # noqa: FBT001 - likewise
) -> None:
    """Write down what is installed, whoever installed it: LIST gets the node packs at their
    commits, and the lock beside it ComfyUI and every package, with the index's hashes.

    Other machines that are given both install the same. Nothing that is installed is changed, and
    nothing is resolved. What neither file can say (a pack that is no clone, files that were changed
    by hand, a package that no index has) is told. A ComfyUI that was installed by hand is named by
    WORKSPACE_PATH, the folder that holds it, and COMFYUI_PYTHON.
    """
    # Imported here: it loads psutil and the drivers.
    from machine_lifecycle.assembly.locking import Locking  # noqa: PLC0415

    loaded, paths = open_settings(ctx), open_paths(ctx)
    locking = Locking(
        loaded.settings,
        paths,
        loaded.variables,
        say=lambda line: None if as_json else click.echo(line, err=True),
    )
    taken = asyncio.run(locking.snapshot(nodes, write=not dry_run, force=force))
    if as_json:
        emit_json(taken.value())
        return
    for line in taken.notes:
        click.echo(f"! {line}")
    packs, packages = len(taken.lock.packs), len(taken.lock.packages)
    would = "would be" if dry_run else "are"
    click.echo(f"{taken.nodes} and {taken.lock_path} {would} {packs} packs, {packages} packages")
    click.echo(f"use them: export CONFIG_NODES_PATH={shlex.quote(str(taken.nodes.absolute()))}")
