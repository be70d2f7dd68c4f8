"""A Compose file. Source: https://github.com/compose-spec/compose-spec/blob/main/05-services.md."""

from __future__ import annotations

import json
from typing import Any

from machine_lifecycle.model.limits import Limits
from machine_lifecycle.model.paths import Paths
from machine_lifecycle.model.processes import RestartWhen
from machine_lifecycle.plan.exports.programs import ExportFile, Program

__all__ = ["compose"]

_RESTART = {
    RestartWhen.ALWAYS: "always",
    RestartWhen.ON_FAILURE: "on-failure",
    RestartWhen.NEVER: "no",
}


def compose(programs: tuple[Program, ...], paths: Paths) -> tuple[ExportFile, ...]:
    """A container per process, all of one image, on the host's network and workspace.

    The image (``IMAGE``) must have this package, and everything installed, at the same paths.
    Written as JSON inside YAML's syntax, which every reader of YAML takes.
    """
    services = {program.name: _service(program, paths) for program in programs}
    value: dict[str, Any] = {"name": "machine", "services": services}
    head = (
        "# Processes of this machine, for docker compose. Set IMAGE to an image that holds them.\n"
        "# Secrets come from the environment or an .env file beside this one.\n"
    )
    text = json.dumps(value, indent=2, ensure_ascii=False)
    return (ExportFile(name="compose.yaml", text=f"{head}{text}\n"),)


def _service(program: Program, paths: Paths) -> dict[str, Any]:
    secrets = {name: f"${{{name}:?set {name}}}" for name in program.secrets}
    value: dict[str, Any] = {
        "image": "${IMAGE:?set IMAGE}",
        "network_mode": "host",
        "init": True,
        "working_dir": _escaped(str(program.cwd)),
        "entrypoint": [_escaped(word) for word in (*program.limits.words(), *program.argv)],
        "environment": {name: _escaped(text) for name, text in program.env.items()} | secrets,
        "volumes": [f"{_escaped(str(paths.workspace))}:{_escaped(str(paths.workspace))}"],
        "restart": _RESTART[program.restart.when],
        "stop_signal": program.stop.signal,
        "stop_grace_period": f"{round(program.stop.grace * 1000)}ms",
    }
    if program.needs:
        value["depends_on"] = list(program.needs)
    if program.env_files:
        value["env_file"] = [
            {"path": _escaped(str(file.path)), "required": file.required}
            for file in program.env_files
        ]
    return value | _user(program.limits)


def _user(limits: Limits) -> dict[str, str]:
    user = limits.user or ("0" if limits.group else "")
    return {"user": f"{user}:{limits.group}".rstrip(":")} if user else {}


def _escaped(text: str) -> str:
    return text.replace("$", "$$")
