"""Where the machine keeps its files."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import stat
from collections.abc import Mapping
from pathlib import Path

import platformdirs

from machine_lifecycle.model.paths import Paths
from machine_lifecycle.model.settings import Settings
from machine_lifecycle.system.errors import BadFolder

__all__ = ["find_paths", "machines_beside", "prepare"]

_NAME = "machine-lifecycle"
_CONTAINER_WORKSPACE = Path("/workspace")
_OURS_ALONE = 0o700
_LEAST_FREE = 32 << 20
"""Bytes. Below that the queue's log and the processes' logs fill the disk within a boot."""
_LONGEST_SOCKET_PATH = 100
"""Bytes. ``sun_path`` ends at 107 on Linux and 103 on macOS (``man 7 unix``)."""


def find_paths(settings: Settings, environ: Mapping[str, str]) -> Paths:
    """The machine's folders. Creates nothing.

    The workspace is ``WORKSPACE_PATH``, else ``/workspace`` if it can be written to, else the
    user's data folder. The runtime folder is ``MACHINE_RUNTIME_DIR``, else one that is derived
    from the workspace: under ``XDG_RUNTIME_DIR``, else (root) ``/run``, else ``/tmp``.

    Raises:
        BadFolder: A socket's path in the runtime folder would be too long.
    """
    workspace = _workspace(settings, environ)
    shared = settings.services_path
    if shared is not None and shared.absolute() == workspace.absolute():
        shared = None
    runtime = _runtime(settings, environ, workspace)
    paths = Paths(workspace=workspace, runtime=runtime, shared=shared)
    length = len(os.fsencode(paths.control_socket))
    if length > _LONGEST_SOCKET_PATH:
        problem = f"is too long for a socket's path: {length} bytes, {_LONGEST_SOCKET_PATH} fit"
        raise BadFolder(folder=paths.runtime, problem=problem, variable="MACHINE_RUNTIME_DIR")
    return paths


def prepare(paths: Paths) -> None:
    """Make the folders. The runtime folder is ours alone (0700), whoever made it.

    Raises:
        BadFolder: One can't be made, or the runtime folder is somebody else's.
    """
    folders = {paths.workspace: "WORKSPACE_PATH", paths.logs: "WORKSPACE_PATH"}
    folders |= {paths.shared: "MACHINE_SERVICES_PATH"} if paths.shared else {}
    for folder, name in folders.items():
        _make(folder, 0o755, name)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise BadFolder(folder=folder, problem="can't be written to", variable=name)
    free = shutil.disk_usage(paths.workspace).free
    if free < _LEAST_FREE:
        problem = f"has only {free >> 20} MiB of room left"
        raise BadFolder(folder=paths.workspace, problem=problem, variable="WORKSPACE_PATH")
    variable = "MACHINE_RUNTIME_DIR"
    _make(paths.runtime.parent, _OURS_ALONE, variable)
    _make(paths.runtime, _OURS_ALONE, variable)
    # In /tmp somebody else may have made it first, or a link to elsewhere.
    found = paths.runtime.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise BadFolder(folder=paths.runtime, problem="is no folder", variable=variable)
    if found.st_uid != os.geteuid():
        problem = f"belongs to user {found.st_uid}, not to us ({os.geteuid()})"
        raise BadFolder(folder=paths.runtime, problem=problem, variable=variable)
    if stat.S_IMODE(found.st_mode) != _OURS_ALONE:
        paths.runtime.chmod(_OURS_ALONE)


def machines_beside(socket_path: Path) -> tuple[Path, ...]:
    """Runtime folders of machines that run beside the one whose control socket this would be: in
    folders that are derived, as ours is. Nobody is looked for elsewhere.
    """
    runtime = socket_path.parent
    if not runtime.parent.name.startswith(_NAME):
        return ()
    sockets = sorted(runtime.parent.glob(f"*/{socket_path.name}"))
    return tuple(one.parent for one in sockets if one != socket_path and _somebody_listens(one))


def _somebody_listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(0)
        return probe.connect_ex(str(path)) == 0


def _make(folder: Path, mode: int, variable: str) -> None:
    try:
        folder.mkdir(mode=mode, parents=True, exist_ok=True)
    except OSError as error:
        problem = f"can't be made: {error.strerror}"
        raise BadFolder(folder=folder, problem=problem, variable=variable) from error


def _workspace(settings: Settings, environ: Mapping[str, str]) -> Path:
    if settings.workspace is not None:
        return settings.workspace.absolute()
    writable = os.access(_CONTAINER_WORKSPACE, os.W_OK | os.X_OK)
    if _CONTAINER_WORKSPACE.is_dir() and writable:
        return _CONTAINER_WORKSPACE
    # platformdirs reads the process's own environment; ours may be another program's choice.
    if environ.get("XDG_DATA_HOME", "").startswith("/"):
        return Path(environ["XDG_DATA_HOME"]) / _NAME
    return platformdirs.user_data_path(_NAME, appauthor=False)


def _runtime(settings: Settings, environ: Mapping[str, str], workspace: Path) -> Path:
    if settings.runtime_dir is not None:
        return settings.runtime_dir.absolute()
    # Two machines on one host differ in their workspaces.
    digest = hashlib.sha256(os.fsencode(workspace.resolve())).hexdigest()[:10]
    session = Path(environ.get("XDG_RUNTIME_DIR") or "/nowhere")
    if session.is_absolute() and session.is_dir() and os.access(session, os.W_OK):
        return session / _NAME / digest
    if os.geteuid() == 0 and os.access("/run", os.W_OK):
        return Path("/run") / _NAME / digest
    return Path(f"/tmp/{_NAME}-{os.geteuid()}") / digest  # noqa: S108 - prepare() checks the owner
