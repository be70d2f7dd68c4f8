"""``lock``: the list of node packs and the settings, as commits, versions and hashes."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

import click

from machine_lifecycle.cli.environment import open_paths, open_settings
from machine_lifecycle.cli.output import emit_json
from machine_lifecycle.model.text import counted

if TYPE_CHECKING:
    from machine_lifecycle.assembly.locking import Locking, Outcome

__all__ = ["lock"]

_ALL = "*"


@click.command()
@click.option("--check", is_flag=True, help="Only say whether the lock is that of the list.")
@click.option("--dry-run", is_flag=True, help="Show what would change; write nothing.")
@click.option(
    "--upgrade",
    multiple=True,
    is_flag=False,
    flag_value=_ALL,
    metavar="[PACK]",
    help="Look up the newest commit of PACK; without a name: of all, and newest versions.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def lock(
    ctx: click.Context,
    check: bool,  # noqa: FBT001 - click passes options so
    dry_run: bool,  # noqa: FBT001 - likewise
    upgrade: tuple[str, ...],
    as_json: bool,  # noqa: FBT001 - likewise
) -> None:
    """Turn the list of node packs and the settings into one lock file, beside the list.

    Branches and tags become commits; what all packs require is solved together, with hashes. A
    pack that can't live with the others is left out by name, with the reason. What the lock says
    already stays as it is: only what is new in the list is looked up, unless --upgrade is given.
    Nothing is installed.
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
    if check:
        checked = asyncio.run(locking.check())
        _say({"path": str(checked.path), "stale": False}, as_json=as_json)
        return
    names = None if _ALL in upgrade else upgrade
    outcome = asyncio.run(_make(locking, names, write=not dry_run))
    if as_json:
        emit_json(outcome.value())
        return
    for line in outcome.changes:
        click.echo(line)
    packs = counted(len(outcome.lock.installed), "pack")
    packages = counted(len(outcome.lock.packages), "package")
    kept = "would be" if dry_run else "is" if outcome.changes else "stays"
    click.echo(f"{locking.path} {kept} the lock of {packs} and {packages}")
    for one in outcome.lock.quarantined:
        beside = f" beside {', '.join(one.against)}" if one.against else ""
        click.echo(f"left out: {one.pack}{beside}: {one.fault.value}", err=True)
        for line in one.told:
            click.echo(f"  | {line}", err=True)


async def _make(locking: Locking, upgrade: tuple[str, ...] | None, *, write: bool) -> Outcome:
    return await locking.make(upgrade, write=write)


def _say(value: dict[str, object], *, as_json: bool) -> None:
    if as_json:
        emit_json(value)
    else:
        sys.stdout.write(f"{value['path']} is the lock of this list and these settings\n")
