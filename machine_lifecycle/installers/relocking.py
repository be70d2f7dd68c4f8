"""Making the lock of one machine: of its settings, its list of packs and its Python."""

from __future__ import annotations

import platform as this_platform
import sys
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path

import attrs

from machine_lifecycle.installers.comfyui import (
    ALSO,
    comfyui_environment,
    comfyui_nodes,
    comfyui_repository,
)
from machine_lifecycle.installers.compiling import UvSolver
from machine_lifecycle.installers.lock import Lock
from machine_lifecycle.installers.locked import wanted_packs
from machine_lifecycle.installers.locking import FOUND, Wanted, make_lock
from machine_lifecycle.installers.packages import Environment
from machine_lifecycle.installers.sources import Sources
from machine_lifecycle.installers.variables import package_environment
from machine_lifecycle.model.hardware import GpuSource
from machine_lifecycle.model.installing import InstallContext, StepContext

__all__ = ["lock_of", "wanted_of"]

_CUDA = ("cu", "rocm", "xpu")
"""How builds of torch for GPUs begin: ``2.13.0+cu126``, ``rocm6.3``."""


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
    return Wanted(
        comfyui=comfyui_repository(context),
        packs=wanted_packs(comfyui_nodes(context)),
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
