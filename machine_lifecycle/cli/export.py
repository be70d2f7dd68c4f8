"""``export``: the plan in the words of another process supervisor."""

from __future__ import annotations

from pathlib import Path

import click

from machine_lifecycle.cli.environment import open_paths, open_settings
from machine_lifecycle.cli.output import emit_json

__all__ = ["export"]

_NAMES = ("systemd", "systemd-processes", "pm2", "supervisord", "procfile", "compose")


@click.command()
@click.argument("form", metavar="FORMAT", type=click.Choice(_NAMES))
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(),
    show_default="this folder",
    help="Folder for the files; made if it is not there.",
)
@click.option("--print", "as_text", is_flag=True, help="Print the files; write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print what was written as JSON.")
@click.pass_context
def export(
    ctx: click.Context,
    form: str,
    out: Path,
    as_text: bool,  # noqa: FBT001 - click
    as_json: bool,  # noqa: FBT001 - click
) -> None:
    """Write what a boot would start for another process supervisor.

    FORMAT: systemd is one unit that runs the whole machine; systemd-processes, pm2, supervisord,
    procfile and compose start each process themselves, and need HUB_REDIS_URL. What is to be
    installed must be there already. Secrets are referred to by name, never written.
    """
    # Imported here: these load psutil and the drivers.
    from machine_lifecycle.assembly.planner import MachinePlanner  # noqa: PLC0415
    from machine_lifecycle.plan.exports.formats import FORMATS  # noqa: PLC0415
    from machine_lifecycle.plan.exports.formats import export as exported  # noqa: PLC0415
    from machine_lifecycle.system.files import asked_for, write_atomically  # noqa: PLC0415
    from machine_lifecycle.system.gpus import detect  # noqa: PLC0415
    from machine_lifecycle.system.identity import machine_id  # noqa: PLC0415

    loaded = open_settings(ctx)
    paths = open_paths(ctx)
    identity, _ = machine_id(loaded.settings, loaded.variables, paths, create=not as_text)
    planner = MachinePlanner(
        settings=loaded.settings, paths=paths, machine_id=identity, environ=loaded.variables
    )
    folder = out.absolute()
    made = planner.plan(detect(loaded.settings))
    files = exported(form, made, settings=loaded.settings, paths=paths, out=folder)
    if as_text:
        for file in files:
            click.echo(f"# {file.name}")
            click.echo(file.text)
        return
    for file in files:
        with asked_for(folder / file.name):
            write_atomically(folder / file.name, file.text)
    start = FORMATS[form].start.format(out=folder)
    if as_json:
        emit_json({"files": [str(folder / file.name) for file in files], "start": start})
        return
    for file in files:
        click.echo(f"wrote {folder / file.name}")
    click.echo(f"start: {start}")
