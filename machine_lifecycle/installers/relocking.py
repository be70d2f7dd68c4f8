"""The lock of one machine: of its settings, its list of packs, its Python; where it is kept."""

from __future__ import annotations

import platform as this_platform
import sys
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path

import attrs

from machine_lifecycle.installers.base import write_atomically
from machine_lifecycle.installers.comfyui import (
    ALSO,
    comfyui_environment,
    comfyui_nodes,
    comfyui_repository,
)
from machine_lifecycle.installers.compiling import UvSolver
from machine_lifecycle.installers.lock import Lock, parse_lock
from machine_lifecycle.installers.lock_errors import LockUnreadable
from machine_lifecycle.installers.locking import FOUND, Wanted, WantedPack, make_lock
from machine_lifecycle.installers.packages import Environment
from machine_lifecycle.installers.repository import Repository
from machine_lifecycle.installers.sources import Sources
from machine_lifecycle.installers.variables import package_environment
from machine_lifecycle.model.hardware import GpuSource
from machine_lifecycle.model.installing import InstallContext, StepContext

__all__ = ["lock_of", "lock_path", "read_lock", "save_lock", "wanted_of"]

_CUDA = ("cu", "rocm", "xpu")
"""How builds of torch for GPUs begin: ``2.13.0+cu126``, ``rocm6.3``."""


def lock_path(context: InstallContext) -> Path:
    """Beside the list of packs, so that both are kept together; else in the workspace."""
    nodes = context.settings.comfyui_nodes
    if nodes is None:
        return context.paths.workspace / f"{context.service}.lock.json"
    return nodes.with_name(f"{nodes.stem}.lock.json")


def read_lock(path: Path) -> Lock | None:
    """The lock that is kept there; ``None`` if there is none.

    Raises:
        LockUnreadable: It can't be read, or is none.
    """
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise LockUnreadable(path=path, problem=str(error)) from error
    return parse_lock(text, path)


def save_lock(lock: Lock, path: Path) -> None:
    """Keep it: whoever reads meanwhile sees the old one or the new one.

    Raises:
        LockUnreadable: It can't be written there.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, lock.text())
    except OSError as error:
        raise LockUnreadable(path=path, problem=f"it can't be written: {error}") from error


async def wanted_of(context: InstallContext, ctx: StepContext) -> Wanted:
    """What this machine's settings ask for. Looks at the Python that they name, at nothing else.

    Raises:
        Problems: The list of packs can't be used.
        InstallerBroken: It can't be read.
        ProgramMissing: There is no such Python.
    """
    environment = comfyui_environment(context)
    python, versions = this_platform.python_version(), {}
    if not environment.ours:
        words = (str(environment.python), "-c", "import platform; print(platform.python_version())")
        told = await ctx.run_command(words, env=environment.env)
        python, versions = told.output.strip(), await environment.torch(ctx)
    packs = tuple(
        WantedPack(
            name=node.name,
            repository=Repository(
                url=node.url, branch=node.branch, commit=node.commit, recursive=node.recursive
            ),
            requirements=node.requirements,
            required=node.required,
        )
        for node in comfyui_nodes(context)
    )
    return Wanted(
        comfyui=comfyui_repository(context),
        # By priority: what is required may push out what is not.
        packs=tuple(sorted(packs, key=lambda pack: not pack.required)),
        also=ALSO,
        python=python,
        interpreter=Path(sys.executable) if environment.ours else environment.python,
        torch=environment.backend if environment.ours else FOUND,
        versions=versions,
        gpu=_for_gpus(context, environment, versions),
        exclude_newer=context.environ.get("UV_EXCLUDE_NEWER", ""),
    )


def _for_gpus(
    context: InstallContext, environment: Environment, versions: Mapping[str, str]
) -> bool:
    """Whether torch computes on GPUs here: as its build says, else as the hardware does."""
    build = versions.get("torch", "").partition("+")[2] if versions else environment.backend
    if build not in {"", "auto"}:
        return build.startswith(_CUDA)
    hardware, settings = context.hardware, context.settings
    real = hardware.gpus and hardware.source in {GpuSource.NVML, GpuSource.NVIDIA_SMI}
    return bool(real) and not settings.comfyui_cpu_mode


async def lock_of(
    context: InstallContext,
    ctx: StepContext,
    wanted: Wanted,
    *,
    previous: Lock | None,
    upgrade: Collection[str] | None,
) -> Lock:
    """Make the lock; see ``make_lock`` for what is kept and what is raised."""
    environ = context.environ
    backend = wanted.torch if wanted.torch != FOUND else ""
    no_index = environ.get("PIP_NO_INDEX", "0") not in {"", "0", "false"}
    with tempfile.TemporaryDirectory(prefix="machine-lifecycle-lock-") as folder:
        solver = UvSolver(
            ctx=attrs.evolve(ctx, report=_nobody),
            env=package_environment(environ, backend=backend),
            folder=Path(folder),
            python=wanted.interpreter,
            options=("--no-index",) if no_index else (),
        )
        sources = Sources(
            ctx=ctx,
            cache=context.paths.workspace / ".machine-lifecycle" / "commits",
            environ=environ,
            global_config=context.settings.git_global_config,
        )
        return await make_lock(wanted, sources, solver, previous=previous, upgrade=upgrade)


def _nobody(_: str) -> None:
    """Questions to the solver that fail are part of the search."""
