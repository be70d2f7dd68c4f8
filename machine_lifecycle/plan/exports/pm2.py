"""PM2's ``ecosystem.config.js``. Source: https://pm2.keymetrics.io/docs/usage/application-declaration/."""

from __future__ import annotations

import json
from typing import Any

from machine_lifecycle.model.limits import Limits
from machine_lifecycle.model.processes import RestartWhen
from machine_lifecycle.plan.exports.programs import ExportFile, Program, shell_line

__all__ = ["ecosystem"]

_INDENT = "  "
_HEAD = """\
// Processes of this machine, for PM2: pm2 start {name}
// Secrets come from the environment in which PM2 is started: {secrets}.
// The folders that they write to, made here since PM2 makes none.
const fs = require("fs");
for (const folder of {folders}) {{
  fs.mkdirSync(folder, {{ recursive: true }});
}}

"""


def ecosystem(programs: tuple[Program, ...]) -> tuple[ExportFile, ...]:
    """One file that ``pm2 start`` takes. PM2 knows no dependencies: workers wait by themselves."""
    name = "ecosystem.config.js"
    secrets = sorted({secret for program in programs for secret in program.secrets})
    folders = dict.fromkeys(str(path) for program in programs for path in program.directories)
    head = _HEAD.format(
        name=name,
        secrets=", ".join(secrets) or "none",
        folders=_indented(list(folders), 0),
    )
    apps = ",\n".join(_app(program) for program in programs)
    return (
        ExportFile(name=name, text=f"{head}module.exports = {{\n  apps: [\n{apps}\n  ]\n}};\n"),
    )


def _app(program: Program) -> str:
    # PM2 reads no files with variables and sets no limits: a shell does, and becomes the program.
    plain = program.limits == Limits() and not program.env_files
    argv = program.argv if plain else ("/bin/sh", "-c", shell_line(program))
    values: dict[str, Any] = {
        "name": program.name,
        "script": argv[0],
        "args": list(argv[1:]),
        # What runs the script: none, it is a program.
        "interpreter": "none",
        "cwd": str(program.cwd),
        "exec_mode": "fork",
        "instances": 1,
        "autorestart": program.restart.when is not RestartWhen.NEVER,
        "max_restarts": program.restart.budget,
        "min_uptime": round(program.restart.min_uptime * 1000),
        "exp_backoff_restart_delay": max(1, round(program.restart.backoff * 1000)),
        "kill_timeout": round(program.stop.grace * 1000),
        "treekill": True,
        "merge_logs": True,
        "out_file": str(program.log),
        "error_file": str(program.log),
        **({"uid": program.limits.user} if program.limits.user else {}),
        **({"gid": program.limits.group} if program.limits.group else {}),
    }
    lines = [f"{key}: {_indented(value, 3)}" for key, value in values.items()]
    env = [f"{json.dumps(key)}: {json.dumps(text)}" for key, text in program.env.items()]
    env += [f"{json.dumps(key)}: process.env[{json.dumps(key)}]" for key in program.secrets]
    gap = ",\n" + _INDENT * 4
    lines.append(f"env: {{\n{_INDENT * 4}{gap.join(env)}\n{_INDENT * 3}}}")
    between = ",\n" + _INDENT * 3
    return f"{_INDENT * 2}{{\n{_INDENT * 3}{between.join(lines)}\n{_INDENT * 2}}}"


def _indented(value: Any, depth: int) -> str:
    text = json.dumps(value, indent=2, ensure_ascii=False) if value else json.dumps(value)
    return text.replace("\n", "\n" + _INDENT * depth)
