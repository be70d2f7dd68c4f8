"""Child processes: start, watch, restart, stop, logs, adoption.

The names below are loaded when they are first used, since most programs that import this package
don't start anything.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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
    "NeedsUnmet",
    "ProcessFailed",
    "ProcessesLeft",
    "ProgramNotFound",
    "SecretMissing",
    "Supervisor",
    "UnknownProcess",
    "figures",
]

_MODULES = {"Supervisor": "core", "figures": "usage"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(name)
    module = importlib.import_module(f"{__name__}.{_MODULES.get(name, 'errors')}")
    return getattr(module, name)
