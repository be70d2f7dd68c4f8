"""supervisord's program sections. Source: http://supervisord.org/configuration.html."""

from __future__ import annotations

import shlex

from machine_lifecycle.model.processes import RestartWhen
from machine_lifecycle.plan.exports.programs import ExportFile, Program, shell_line

__all__ = ["ini"]

_AUTORESTART = {
    RestartWhen.ALWAYS: "true",
    RestartWhen.ON_FAILURE: "unexpected",
    RestartWhen.NEVER: "false",
}


def ini(programs: tuple[Program, ...]) -> tuple[ExportFile, ...]:
    """One file for supervisord's ``[include]``. Folders are made by a shell before each start."""
    secrets = sorted({secret for program in programs for secret in program.secrets})
    head = (
        "; Processes of this machine, for supervisord: name this file in [include].\n"
        f"; Secrets are inherited from supervisord: {', '.join(secrets) or 'none'}.\n"
    )
    known = [program.name for program in programs]
    sections = [_section(program, _depth(program, programs)) for program in programs]
    group = f"[group:machine]\nprograms={','.join(known)}\n"
    return (ExportFile(name="machine-lifecycle.ini", text="\n".join([head, *sections, group])),)


def _section(program: Program, depth: int) -> str:
    # supervisord refuses a folder or a log file that is not there yet, and has no way to quote a
    # quotation mark in a variable: the shell does all of it.
    command = f"{shell_line(program)} >>{shlex.quote(str(program.log))} 2>&1"
    values = {
        "command": f"/bin/sh -c {shlex.quote(command)}".replace("%", "%%"),
        "priority": str(100 + depth),
        "autostart": "true",
        "autorestart": _AUTORESTART[program.restart.when],
        "startsecs": "1",
        "startretries": str(program.restart.budget),
        "stopsignal": program.stop.signal.removeprefix("SIG"),
        "stopwaitsecs": f"{max(1, round(program.stop.grace))}",
        "stopasgroup": "true",
        "killasgroup": "true",
        "stdout_logfile": "NONE",
        "stderr_logfile": "NONE",
        "user": program.limits.user,
    }
    lines = [f"{key}={value}" for key, value in values.items() if value]
    return "\n".join([f"[program:{program.name}]", *lines, ""])


def _depth(program: Program, programs: tuple[Program, ...]) -> int:
    """How many programs must be there before it, one after the other: supervisord's order."""
    by_name = {one.name: one for one in programs}
    needed = [by_name[name] for name in program.needs if name in by_name]
    return 1 + max((_depth(one, programs) for one in needed), default=0)
