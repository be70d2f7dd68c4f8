"""What any process supervisor is told of a process, before it is put into its words."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import attrs

from machine_lifecycle.model.limits import Limits
from machine_lifecycle.model.paths import Paths
from machine_lifecycle.model.plan import BootPlan
from machine_lifecycle.model.processes import EnvFile, ProcessSpec, RestartPolicy, StopPolicy
from machine_lifecycle.model.settings import Settings

__all__ = ["ExportFile", "Program", "programs_of", "shell_line"]

HEALTH_SERVER = "health-server"
REDIS_URL = "HUB_REDIS_URL"
# Where the orchestrator's socket is: there is no orchestrator when another supervisor runs these.
_LINK = frozenset({"MACHINE_CONTROL_SOCKET"})


@attrs.frozen(kw_only=True)
class ExportFile:
    """One file of an export.

    Attributes:
        name: File name, without a folder.
        text: What it holds; never a secret.
    """

    name: str
    text: str


@attrs.frozen(kw_only=True)
class Program:
    """One process, as any supervisor can run it.

    Attributes:
        secrets: Names of variables that it needs and that must come from outside the file.
        log: File for its output.
        needs: Names of the programs it can do nothing without.
        directories: Folders that must be there before it starts.
        env_files: Files with further variables, absolute. What ``env`` says counts more.
    """

    name: str
    summary: str
    argv: tuple[str, ...]
    cwd: Path
    env: dict[str, str]
    secrets: tuple[str, ...]
    log: Path
    needs: tuple[str, ...] = ()
    directories: tuple[Path, ...] = ()
    restart: RestartPolicy = RestartPolicy()
    stop: StopPolicy = StopPolicy()
    port: int | None = None
    limits: Limits = Limits()
    env_files: tuple[EnvFile, ...] = ()


def shell_line(program: Program) -> str:
    """A line of POSIX shell that becomes the program: folders, files, variables, limits.

    User and group are left to whoever runs it.
    """
    parts = [f"mkdir -p {shlex.join(map(str, program.directories))}"]
    parts.append(f"cd {shlex.quote(str(program.cwd))}")
    if program.limits.umask is not None:
        parts.append(f"umask {program.limits.umask:03o}")
    if program.env_files:
        parts += ["set -a", *map(_sourced, program.env_files), "set +a"]
    words = [f"{name}={text}" for name, text in program.env.items()]
    command = shlex.join(("env", *words, *program.limits.words(), *program.argv))
    return " && ".join([*parts, f"exec {command}"])


def _sourced(file: EnvFile) -> str:
    path = shlex.quote(str(file.path))
    return f". {path}" if file.required else f"{{ test ! -e {path} || . {path}; }}"


def programs_of(
    plan: BootPlan, settings: Settings, paths: Paths, *, manifest: Path
) -> tuple[Program, ...]:
    """Everything that runs on the machine, the health pages first, as independent programs.

    Workers get no link to an orchestrator: each watches its own service and the queue. The health
    pages read *manifest*.
    """
    pages = Program(
        name=HEALTH_SERVER,
        summary="Health pages of the machine",
        argv=(
            *(sys.executable, "-m", "machine_lifecycle", HEALTH_SERVER),
            *("--manifest", str(manifest)),
            *("--host", settings.health_host, "--port", str(settings.health_port)),
        ),
        cwd=paths.workspace,
        env={"PYTHONUNBUFFERED": "1"},
        secrets=(REDIS_URL,),
        log=paths.logs / f"{HEALTH_SERVER}.log",
        directories=(paths.logs,),
        port=settings.health_port or None,
    )
    return (pages, *(_program(spec, paths) for spec in plan.processes))


def _program(spec: ProcessSpec, paths: Paths) -> Program:
    command = spec.command
    folder = command.cwd or paths.workspace
    return Program(
        name=spec.name,
        summary=f"{spec.role.value} {spec.name}",
        argv=command.argv,
        cwd=folder,
        env={name: text for name, text in command.env.items() if name not in _LINK},
        secrets=command.secrets,
        log=spec.log or paths.logs / f"{spec.name}.log",
        needs=spec.needs,
        directories=(paths.logs, *spec.directories),
        restart=spec.restart,
        stop=spec.stop,
        port=spec.port,
        limits=command.limits,
        env_files=tuple(attrs.evolve(file, path=folder / file.path) for file in command.env_files),
    )
