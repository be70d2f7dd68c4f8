"""Every format that a plan can be exported to, by name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import attrs

from machine_lifecycle.config.settings import settings_env
from machine_lifecycle.model.paths import Paths
from machine_lifecycle.model.plan import BootPlan
from machine_lifecycle.model.settings import Settings
from machine_lifecycle.plan.errors import ExportNeedsRedis
from machine_lifecycle.plan.exports.compose import compose
from machine_lifecycle.plan.exports.pm2 import ecosystem
from machine_lifecycle.plan.exports.procfile import procfile
from machine_lifecycle.plan.exports.programs import ExportFile, programs_of
from machine_lifecycle.plan.exports.supervisord import ini
from machine_lifecycle.plan.exports.systemd import machine_unit, process_units
from machine_lifecycle.plan.manifest import manifest

__all__ = ["FORMATS", "MANIFEST", "Format", "export"]

MANIFEST = "process-manifest.json"
_UNITS = "/etc/systemd/system/"


@attrs.frozen(kw_only=True)
class Format:
    """One format.

    Attributes:
        summary: What it is for, in a line.
        start: The command that starts what was exported, with ``{out}`` for the folder.
        orchestrated: Whether the orchestrator runs the processes, and not the other supervisor.
    """

    summary: str
    start: str
    orchestrated: bool = False


FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        "systemd": Format(
            summary="one systemd unit that runs the whole machine",
            start=f"cp {{out}}/machine-lifecycle.service {_UNITS} && systemctl daemon-reload && "
            "systemctl enable --now machine-lifecycle",
            orchestrated=True,
        ),
        "systemd-processes": Format(
            summary="a systemd unit for each process, and a target",
            start=f"cp {{out}}/machine*.service {{out}}/machine*.target {_UNITS} && "
            "systemctl daemon-reload && systemctl enable --now machine-lifecycle.target",
        ),
        "pm2": Format(
            summary="PM2's ecosystem.config.js", start="pm2 start {out}/ecosystem.config.js"
        ),
        "supervisord": Format(
            summary="program sections for supervisord",
            start="cp {out}/machine-lifecycle.ini /etc/supervisor/conf.d/machine-lifecycle.conf "
            "&& supervisorctl update",
        ),
        "procfile": Format(
            summary="a Procfile for foreman, honcho, overmind",
            start="honcho start -f {out}/Procfile",
        ),
        "compose": Format(
            summary="a Compose file, a container for each process",
            start="docker compose -f {out}/compose.yaml up",
        ),
    }
)
"""Name to what is known of it."""


def export(
    name: str, plan: BootPlan, *, settings: Settings, paths: Paths, out: Path
) -> tuple[ExportFile, ...]:
    """The files of one format, in the order they are told to people.

    Args:
        name: One of ``FORMATS``.
        plan: What is to run.
        settings: Of the machine.
        paths: Of the machine.
        out: Absolute folder that the files will lie in; the health pages read the manifest there.

    Raises:
        ExportNeedsRedis: The processes would have no queue: the embedded one is the orchestrator's.
        KeyError: There is no such format.
    """
    if FORMATS[name].orchestrated:
        return machine_unit(settings, settings_env(settings), paths)
    if not settings.redis_url:
        raise ExportNeedsRedis(form=name)
    programs = programs_of(plan, settings, paths, manifest=out / MANIFEST)
    match name:
        case "pm2":
            made = ecosystem(programs)
        case "supervisord":
            made = ini(programs)
        case "procfile":
            made = procfile(programs)
        case "compose":
            made = compose(programs, paths)
        case _:
            made = process_units(programs)
    return (*made, ExportFile(name=MANIFEST, text=manifest(plan)))
