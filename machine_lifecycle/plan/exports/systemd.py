"""systemd units: one for the machine, or one per process.

Sources: systemd.service(5), systemd.kill(5), systemd.syntax(7).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

from machine_lifecycle.model.limits import UNLIMITED, Limits
from machine_lifecycle.model.paths import Paths
from machine_lifecycle.model.processes import RestartWhen
from machine_lifecycle.model.settings import Settings
from machine_lifecycle.plan.exports.programs import ExportFile, Program

__all__ = ["SECRETS_FILE", "machine_unit", "process_units"]

SECRETS_FILE = "/etc/machine-lifecycle/secrets.env"
"""Where the units look for secrets, as ``NAME=value`` lines; make it 0600, of the unit's user."""

_TARGET = "machine-lifecycle.target"
_RESTART = {
    RestartWhen.ALWAYS: "always",
    RestartWhen.ON_FAILURE: "on-failure",
    RestartWhen.NEVER: "no",
}
_ADOPTION = 10.0
"""Seconds beside the stop budget until systemd ends what the machine could not."""


def machine_unit(settings: Settings, env: dict[str, str], paths: Paths) -> tuple[ExportFile, ...]:
    """The unit of the whole machine: systemd starts the orchestrator, which starts the rest.

    ``KillMode=process``: an orchestrator that is killed leaves its services alive, and the next one
    adopts them. A stop ends them all, since the orchestrator does so itself.
    """
    text = _unit(
        {
            "Unit": [
                ("Description", "Machine lifecycle: boots this machine and keeps it taking jobs"),
                ("Documentation", "man:systemd.service(5)"),
                ("Wants", "network-online.target"),
                ("After", "network-online.target"),
            ],
            "Service": [
                ("Type", "exec"),
                *((("Environment", _assignment(name, value))) for name, value in env.items()),
                ("EnvironmentFile", f"-{SECRETS_FILE}"),
                ("WorkingDirectory", f"-{_path(str(paths.workspace))}"),
                ("ExecStart", _command((sys.executable, "-m", "machine_lifecycle"))),
                ("KillMode", "process"),
                ("TimeoutStopSec", f"{settings.stop_budget + _ADOPTION:g}"),
                ("Restart", "on-failure"),
                ("RestartSec", "1"),
                # A configuration that can't be used does not get better by itself.
                ("RestartPreventExitStatus", "2"),
            ],
            "Install": [("WantedBy", "multi-user.target")],
        }
    )
    return (ExportFile(name="machine-lifecycle.service", text=text),)


def process_units(programs: tuple[Program, ...]) -> tuple[ExportFile, ...]:
    """A unit per process and a target that wants them all: systemd is the orchestrator then."""
    target = _unit(
        {
            "Unit": [
                ("Description", "All processes of the machine"),
                *(("Wants", _name(program.name)) for program in programs),
            ],
            "Install": [("WantedBy", "multi-user.target")],
        }
    )
    units = (ExportFile(name=_name(program.name), text=_process(program)) for program in programs)
    return (ExportFile(name=_TARGET, text=target), *units)


def _process(program: Program) -> str:
    restart = program.restart
    return _unit(
        {
            "Unit": [
                ("Description", program.summary),
                ("PartOf", _TARGET),
                *(("Wants", _name(needed)) for needed in program.needs),
                *(("After", _name(needed)) for needed in program.needs),
                ("StartLimitIntervalSec", f"{restart.window:g}"),
                ("StartLimitBurst", str(restart.budget)),
            ],
            "Service": [
                ("Type", "exec"),
                *(
                    (("Environment", _assignment(name, value)))
                    for name, value in program.env.items()
                ),
                *(
                    ("EnvironmentFile", f"{'' if file.required else '-'}{_path(str(file.path))}")
                    for file in program.env_files
                ),
                *((("EnvironmentFile", f"-{SECRETS_FILE}"),) if program.secrets else ()),
                *_limits(program.limits),
                # Made by the line below, where it is not there yet.
                ("WorkingDirectory", f"-{_path(str(program.cwd))}"),
                ("ExecStartPre", _command(("/bin/mkdir", "-p", *map(str, program.directories)))),
                ("ExecStart", _command((*_again(program), *program.argv))),
                ("Restart", _RESTART[restart.when]),
                ("RestartSec", f"{restart.backoff:g}"),
                ("KillMode", "control-group"),
                ("KillSignal", program.stop.signal),
                ("TimeoutStopSec", f"{program.stop.grace:g}"),
            ],
            "Install": [("WantedBy", _TARGET)],
        }
    )


def _again(program: Program) -> tuple[str, ...]:
    """Words that say the variables once more: to systemd, those of a file count more."""
    if not program.env_files:
        return ()
    return ("/usr/bin/env", *(f"{name}={value}" for name, value in program.env.items()))


def _limits(limits: Limits) -> Iterator[tuple[str, str]]:
    """Source: systemd.exec(5)."""
    if limits.nice is not None:
        yield "Nice", str(limits.nice)
    if limits.ionice:
        kind, _, level = limits.ionice.partition(":")
        yield "IOSchedulingClass", kind
        if level:
            yield "IOSchedulingPriority", level
    if limits.cpus:
        yield "CPUAffinity", " ".join(map(str, limits.cpus))
    for name, value in limits.resources.items():
        yield f"Limit{name.upper()}", "infinity" if value == UNLIMITED else str(value)
    if limits.umask is not None:
        yield "UMask", f"{limits.umask:04o}"
    if limits.user:
        yield "User", limits.user
    if limits.group:
        yield "Group", limits.group


def _unit(sections: dict[str, list[tuple[str, str]]]) -> str:
    parts = []
    for name, lines in sections.items():
        body = "\n".join(f"{key}={value}" for key, value in lines)
        parts.append(f"[{name}]\n{body}\n")
    return "\n".join(parts)


def _name(program: str) -> str:
    return f"machine-{program}.service"


def _path(text: str) -> str:
    return text.replace("%", "%%")


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def _assignment(name: str, value: str) -> str:
    return _quoted(f"{name}={value}").replace("%", "%%")


def _command(argv: tuple[str, ...]) -> str:
    # A dollar sign would be a variable, a percent sign a specifier.
    words = [word.replace("%", "%%").replace("$", "$$") for word in argv]
    return " ".join(word if _plain(word) else _quoted(word) for word in words)


def _plain(word: str) -> bool:
    return bool(word) and all(letter.isalnum() or letter in "-_./:=,@+%$" for letter in word)
