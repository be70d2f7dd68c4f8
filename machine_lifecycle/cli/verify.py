"""``verify``: what is installed, held against the lock."""

from __future__ import annotations

import asyncio
import sys

import click

from machine_lifecycle.cli.environment import open_paths, open_settings
from machine_lifecycle.cli.output import emit_json
from machine_lifecycle.errors import ExitCode
from machine_lifecycle.installers.lock_errors import InstallationDiffers

__all__ = ["verify"]


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def verify(ctx: click.Context, as_json: bool) -> None:  # noqa: FBT001 - click
    """Hold what is installed against the lock: each repository at its commit and unchanged, each
    package at its version with all its files; and each model against its list, all its bytes read.

    Changes nothing and asks nobody outside, beside a running machine too. What nobody locked is
    not looked at. Exits with 3 if anything differs.
    """
    # Imported here: it loads psutil and the drivers.
    from machine_lifecycle.assembly.locking import Locking  # noqa: PLC0415

    loaded, paths = open_settings(ctx), open_paths(ctx)
    loud = sys.stderr.isatty() and not as_json
    locking = Locking(
        loaded.settings,
        paths,
        loaded.variables,
        say=lambda line: click.echo(line, err=True) if loud else None,
    )
    proof = asyncio.run(locking.verify())
    if as_json:
        emit_json(proof.value())
        sys.exit(ExitCode.OK if not proof.differences else ExitCode.BOOT_FAILED)
    if proof.differences:
        lines = tuple(one.line for one in proof.differences)
        raise InstallationDiffers(
            path=proof.path, home=proof.home, differences=lines, context=lines
        )
    packs, packages = len(proof.lock.installed), len(proof.lock.packages)
    models = f", models: {proof.models}" if proof.models else ""
    click.echo(f"as {proof.path} says: ComfyUI, packs: {packs}, packages: {packages}{models}")
