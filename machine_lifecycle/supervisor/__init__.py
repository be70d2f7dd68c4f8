"""Child processes: start, watch, restart, stop, logs, adoption.

The names below are loaded when they are first used, since most programs that import this package
don't start anything.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from machine_lifecycle.model.paths import Paths
    from machine_lifecycle.model.processes import (
        Command,
        CommandReady,
        ExitCause,
        HttpReady,
        LogReady,
        NotifyReady,
        ProcessSpec,
        ProcessState,
        ProcessStatus,
        RestartPolicy,
        RestartWhen,
        Role,
        StopPolicy,
        TcpReady,
        WebSocketReady,
    )
    from machine_lifecycle.supervisor.core import Supervisor
    from machine_lifecycle.supervisor.errors import (
        NeedsUnmet,
        ProcessesLeft,
        ProcessFailed,
        ProgramNotFound,
        SecretMissing,
        UnknownProcess,
    )
    from machine_lifecycle.supervisor.usage import figures

__all__ = [
    "Command",
    "CommandReady",
    "ExitCause",
    "HttpReady",
    "LogReady",
    "NeedsUnmet",
    "NotifyReady",
    "Paths",
    "ProcessFailed",
    "ProcessSpec",
    "ProcessState",
    "ProcessStatus",
    "ProcessesLeft",
    "ProgramNotFound",
    "RestartPolicy",
    "RestartWhen",
    "Role",
    "SecretMissing",
    "StopPolicy",
    "Supervisor",
    "TcpReady",
    "UnknownProcess",
    "WebSocketReady",
    "figures",
]

_MODULES = {"Supervisor": "core", "figures": "usage"}
_PROCESSES = {
    "Command",
    "CommandReady",
    "ExitCause",
    "HttpReady",
    "LogReady",
    "NotifyReady",
    "ProcessSpec",
    "ProcessState",
    "ProcessStatus",
    "RestartPolicy",
    "RestartWhen",
    "Role",
    "StopPolicy",
    "TcpReady",
    "WebSocketReady",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(name)
    if name in _PROCESSES:
        where = "machine_lifecycle.model.processes"
    elif name == "Paths":
        where = "machine_lifecycle.model.paths"
    else:
        where = f"{__name__}.{_MODULES.get(name, 'errors')}"
    return getattr(importlib.import_module(where), name)
