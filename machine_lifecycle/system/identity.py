"""Who this machine is in the fleet: the same after every restart."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from pathlib import Path

from filelock import FileLock

from machine_lifecycle.model.paths import Paths
from machine_lifecycle.model.settings import Settings
from machine_lifecycle.system.errors import BadFolder, BadMachineId
from machine_lifecycle.system.files import write_atomically

__all__ = ["machine_id"]

# Redis keys and channels of ours put the id between colons; globs and spaces break readers.
_USABLE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_CONTAINER_ID = re.compile(r"\b[0-9a-f]{64}\b")
_PLATFORMS = (
    ("RUNPOD_POD_ID", "RunPod"),
    ("VAST_CONTAINERLABEL", "Vast.ai"),
    ("SALAD_MACHINE_ID", "Salad"),
)
_PREVIEW = ("unnamed", "a file that the first boot makes")
_FIRST = ("amber", "brisk", "calm", "dusky", "eager", "fleet", "green", "hardy", "ivory", "keen")
_SECOND = ("badger", "crane", "dingo", "egret", "falcon", "gecko", "heron", "ibis", "lynx", "otter")


def machine_id(
    settings: Settings,
    environ: Mapping[str, str],
    paths: Paths,
    *,
    create: bool = True,
    proc: Path = Path("/proc"),
) -> tuple[str, str]:
    """The machine's id, and where it comes from.

    ``MACHINE_ID``; else the platform's (RunPod, Vast.ai, Salad, Kubernetes); else the container's;
    else that of a file in the workspace. A file that isn't there yet is made.

    Args:
        settings: For ``MACHINE_ID``.
        environ: The environment.
        paths: For the file.
        create: Whether a new id is written; else ``unnamed`` stands for one.
        proc: Where the kernel tells of processes.

    Raises:
        BadMachineId: It can't stand in the queue's keys.
        BadFolder: The file can't be written.
    """
    found = (
        _given(settings)
        or _platform(environ)
        or _container(proc)
        or _of_file(paths.machine_id, create=create)
    )
    identity, origin = found
    if not _USABLE.fullmatch(identity):
        raise BadMachineId(machine_id=identity, origin=origin)
    return found


def _given(settings: Settings) -> tuple[str, str] | None:
    return (settings.machine_id, "MACHINE_ID") if settings.machine_id else None


def _platform(environ: Mapping[str, str]) -> tuple[str, str] | None:
    for variable, platform in _PLATFORMS:
        if environ.get(variable):
            return environ[variable], f"{platform} ({variable})"
    if environ.get("KUBERNETES_SERVICE_HOST") and environ.get("HOSTNAME"):
        return environ["HOSTNAME"], "Kubernetes (HOSTNAME)"
    return None


def _container(proc: Path) -> tuple[str, str] | None:
    """The first twelve digits of a container's id, as ``docker ps`` shows it."""
    for name, marks in (
        ("self/cgroup", ("docker", "containerd", "libpod", "kubepods", "crio")),
        # With the second version of control groups only the mounts of /etc/hosts tell.
        ("self/mountinfo", ("/containers/", "/overlay-containers/")),
    ):
        try:
            text = (proc / name).read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        for line in text.splitlines():
            found = _CONTAINER_ID.search(line)
            own = "/etc/hostname" in line or name == "self/cgroup"
            if found and own and any(mark in line for mark in marks):
                return found[0][:12], "the container's id"
    return None


def _of_file(path: Path, *, create: bool) -> tuple[str, str]:
    try:
        known = _read(path)
        if known or not create:
            return (known, str(path)) if known else _PREVIEW
        path.parent.mkdir(parents=True, exist_ok=True)
        # Several processes may be first at once; the lock makes one of them so.
        with FileLock(f"{path}.lock"):
            known = _read(path)
            if not known:
                known = _readable()
                write_atomically(path, f"{known}\n")
        return known, str(path)
    except OSError as error:
        problem = f"can't be written: {error.strerror}"
        raise BadFolder(folder=path, problem=problem, variable="WORKSPACE_PATH") from error


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return ""


def _readable() -> str:
    words = secrets.choice(_FIRST), secrets.choice(_SECOND), secrets.token_hex(4)
    return "-".join(words)
