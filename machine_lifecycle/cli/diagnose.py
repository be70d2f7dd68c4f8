"""``diagnose``: one file with everything that a bug report needs, and no secret."""

from __future__ import annotations

import asyncio
import json
import platform
import time
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import attrs
import click

from machine_lifecycle.cli.environment import open_paths, open_settings
from machine_lifecycle.cli.output import human_bytes
from machine_lifecycle.config.settings import LoadedSettings, secret_values, shown
from machine_lifecycle.errors import LifecycleError
from machine_lifecycle.model.paths import Paths
from machine_lifecycle.model.settings import setting_info

__all__ = ["diagnose"]

_LOG_BYTES = 256 * 1024
"""Of each log, from its end: some 3,000 lines."""


@click.command()
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The file; default: machine-diagnosis-TIME.tar.gz in this folder.",
)
@click.pass_context
def diagnose(ctx: click.Context, out: Path | None) -> None:
    """Gather what a bug report needs into one file, readable by you alone.

    Versions, settings, the plan, what doctor finds, the running machine's status and story, and
    the ends of all logs. Secrets are masked: the values of secret settings and of variables that
    are named like one, and passwords in addresses.
    """
    loaded, paths = open_settings(ctx), open_paths(ctx)
    stamp = time.strftime("%Y%m%d-%H%M%S")
    target = (out or Path(f"machine-diagnosis-{stamp}.tar.gz")).absolute()
    parts = asyncio.run(_gather(loaded, paths))
    from machine_lifecycle.assembly.diagnosis import write_bundle  # noqa: PLC0415 - heavy

    count = write_bundle(target, parts, loaded.variables, secret_values(loaded.settings))
    size = human_bytes(target.stat().st_size)
    click.echo(f"wrote {target} ({count} files, {size}); secrets are masked, but do look into it")


async def _gather(loaded: LoadedSettings, paths: Paths) -> dict[str, str]:
    """File names and their texts; what can't be had is told in its place."""
    parts = {
        "versions.json": _json(_versions()),
        "settings.json": _json(_settings(loaded)),
        "doctor.json": _json(await _findings(loaded, paths)),
        "status.json": _json(await _status(paths)),
        "plan.json": _json(_plan(loaded, paths)),
    }
    for path, limit in ((paths.manifest, 1 << 20), (paths.journal, 1 << 20)):
        if path.is_file():
            parts[path.name] = _end_of(path, limit)
    if paths.logs.is_dir():
        for path in sorted(paths.logs.rglob("*")):
            if path.is_file() and not path.is_symlink() and path.suffix != ".gz":
                parts[f"logs/{path.relative_to(paths.logs)}"] = _end_of(path, _LOG_BYTES)
    return parts


def _versions() -> dict[str, Any]:
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "libc": " ".join(platform.libc_ver()),
        "packages": {one.name: one.version for one in sorted(distributions(), key=_name)},
    }


def _name(distribution: Any) -> str:
    return str(distribution.name)


def _settings(loaded: LoadedSettings) -> dict[str, Any]:
    values = shown(loaded.settings)
    return {
        info.env[0]: {"value": values[info.field], "origin": str(loaded.origins[info.field])}
        for info in setting_info()
    }


async def _findings(loaded: LoadedSettings, paths: Paths) -> list[dict[str, Any]]:
    from machine_lifecycle.assembly.doctor import examine  # noqa: PLC0415 - heavy
    from machine_lifecycle.system.identity import machine_id  # noqa: PLC0415 - likewise

    try:
        identity, _ = machine_id(loaded.settings, loaded.variables, paths, create=False)
    except LifecycleError as error:
        return [{"error": error.to_wire()}]
    return [
        {
            **attrs.asdict(finding, filter=lambda field, _: field.name != "error"),
            "verdict": finding.verdict.value,
            "error": finding.error.to_wire() if finding.error else None,
        }
        async for finding in examine(loaded.settings, loaded.variables, paths, identity)
    ]


def _plan(loaded: LoadedSettings, paths: Paths) -> Any:
    """What a boot would run now; a manifest tells what the last one ran."""
    from machine_lifecycle.assembly.planner import MachinePlanner  # noqa: PLC0415 - heavy
    from machine_lifecycle.plan.manifest import plan_values  # noqa: PLC0415 - likewise
    from machine_lifecycle.system.gpus import detect  # noqa: PLC0415 - likewise
    from machine_lifecycle.system.identity import machine_id  # noqa: PLC0415 - likewise

    try:
        identity, _ = machine_id(loaded.settings, loaded.variables, paths, create=False)
        planner = MachinePlanner(
            settings=loaded.settings, paths=paths, machine_id=identity, environ=loaded.variables
        )
        return plan_values(planner.plan(detect(loaded.settings)))
    except LifecycleError as error:
        return {"error": error.to_wire()}


async def _status(paths: Paths) -> Any:
    from machine_lifecycle.control.client import ControlClient  # noqa: PLC0415 - seldom needed

    try:
        async with ControlClient(paths.control_socket) as machine:
            return await machine.call("status")
    except (LifecycleError, OSError) as error:
        return {"error": str(error)}


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n"


def _end_of(path: Path, limit: int) -> str:
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - limit))
            text = file.read().decode("utf-8", "replace")
    except OSError as error:
        return f"{error}\n"
    return text if size <= limit else f"[the last {limit} of {size} bytes]\n{text}"
