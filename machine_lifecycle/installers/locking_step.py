"""Making the lock of one machine: of its settings, its list of packs and its Python.

A boot does it too where there is no lock yet, or its own is of another list.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import platform as this_platform
import sys
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path

import attrs

from machine_lifecycle.installers.blocklist import Blocklist, blocked_packages
from machine_lifecycle.installers.comfyui_settings import (
    ALSO,
    comfyui_environment,
    comfyui_nodes,
    comfyui_repository,
    kept_commits,
    packs_are_off,
)
from machine_lifecycle.installers.compiling import Fault, LockedPackage, UvSolver
from machine_lifecycle.installers.lock import Lock, changes
from machine_lifecycle.installers.lock_errors import LockImpossible
from machine_lifecycle.installers.locked import wanted_packs
from machine_lifecycle.installers.lockfile import Kept, own_lock_path, save_lock
from machine_lifecycle.installers.locking import FOUND, Wanted, came_back, differences, make_lock
from machine_lifecycle.installers.origins import Origins
from machine_lifecycle.installers.packages import Environment
from machine_lifecycle.installers.repository import with_git_config
from machine_lifecycle.installers.sources import Sources
from machine_lifecycle.installers.standins import StandIns
from machine_lifecycle.installers.threads import to_the_end
from machine_lifecycle.installers.variables import is_offline, package_environment, without_index
from machine_lifecycle.model.hardware import GpuSource
from machine_lifecycle.model.installing import InstallContext, Step, StepContext

__all__ = ["lock_of", "locking_step", "wanted_of"]

_PATIENCE = 30.0
"""Seconds that a boot with a lock looks for packs that could not be reached before."""
_CUDA = ("cu", "rocm", "xpu")
"""How builds of torch for GPUs begin: ``2.13.0+cu126``, ``rocm6.3``."""


async def wanted_of(context: InstallContext, ctx: StepContext) -> Wanted:
    """What this machine's settings ask for. Looks at the Python that they name, at nothing else.

    Raises:
        Problems: The list of packs can't be used.
        FileNotRead: It can't be read.
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
        packs=wanted_packs(comfyui_nodes(context), Blocklist.of(context.settings)),
        also=ALSO,
        python=python,
        interpreter=Path(sys.executable) if environment.ours else environment.python,
        torch=environment.backend if environment.ours else FOUND,
        versions=versions,
        gpu=_for_gpus(context, environment, versions),
        exclude_newer=context.environ.get("UV_EXCLUDE_NEWER", ""),
        at_once=context.settings.install_concurrency,
        blocked=environment.blocked,
        patience=context.settings.packs_timeout,
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
    sources = _sources(context, ctx)
    with tempfile.TemporaryDirectory(prefix="machine-lifecycle-lock-") as folder:
        asked = _solver(context, ctx, wanted, Path(folder))
        there = functools.partial(_among_installed, context, ctx, asked)
        makes = functools.partial(make_lock, wanted, sources, previous=previous, upgrade=upgrade)
        if wanted.torch != FOUND:
            return await makes(asked)
        if is_offline(asked.env):
            return await makes(await there("no index is to be asked"))
        try:
            return await makes(asked)
        except LockImpossible as error:
            if error.fault != Fault.UNREACHED.value:
                raise
            return await makes(await there("no index answers", "--no-index"))


def _solver(context: InstallContext, ctx: StepContext, wanted: Wanted, folder: Path) -> UvSolver:
    environ = with_git_config(context.environ, Origins.of(context.settings).git_config())
    backend = wanted.torch if wanted.torch != FOUND else ""
    blocked = blocked_packages(context.settings)
    env = package_environment(environ, constraints=blocked, backend=backend)
    # uv ignores UV_CONSTRAINT where options name constraints: those of the variable are added.
    held = env.pop("UV_CONSTRAINT", "").split()
    options = [word for path in held for word in ("--constraints", path)]
    return UvSolver(
        ctx=attrs.evolve(ctx, report=_nobody),
        env=env,
        folder=folder,
        python=wanted.interpreter,
        options=(*options, *(("--no-index",) if without_index(environ) else ())),
    )


async def _among_installed(
    context: InstallContext, ctx: StepContext, solver: UvSolver, why: str, *options: str
) -> UvSolver:
    """A solver that takes what is installed for the Python that was named, too; versions of that
    come first.
    """
    environment = comfyui_environment(context)
    quiet = attrs.evolve(ctx, report=_nobody)
    folder = solver.folder / "installed"
    found = await StandIns.of(quiet, environment.python, environment.env, folder)
    ctx.report(f"{why}: versions are those that {environment.python} has, {len(found.versions)}")
    # uv ignores UV_FIND_LINKS where options name folders: those of the variable are added.
    named = solver.env.get("UV_FIND_LINKS", "").split(",")
    links = (
        word for place in (*filter(None, named), str(folder)) for word in ("--find-links", place)
    )
    prefer = (LockedPackage(name=name, version=at) for name, at in found.versions.items())
    return attrs.evolve(
        solver,
        prefer=tuple(prefer),
        stand_ins=found.digests,
        # With an index, what is lacking may be the network's fault; without one, it is the line's
        # that asks for it.
        whole=not without_index(solver.env),
        options=(*solver.options, *links, *options),
    )


def _sources(context: InstallContext, ctx: StepContext) -> Sources:
    return Sources(
        ctx=ctx,
        commits=kept_commits(context),
        environ=context.environ,
        origins=Origins.of(context.settings),
    )


def locking_step(context: InstallContext, kept: Kept | None) -> Step:
    """What makes the machine's own lock, or brings it up to date.

    Args:
        context: Of the installation.
        kept: The one that is there.
    """

    async def run(ctx: StepContext) -> None:
        wanted = await wanted_of(context, ctx)
        if packs_are_off(context):
            wanted = attrs.evolve(wanted, packs=())
        previous = kept.lock if kept else None
        if previous is None:
            ctx.report("there is no lock: it is made now, and kept")
        elif found := differences(previous, wanted):
            ctx.report(f"the lock is brought up to date: {'; '.join(found)}")
        elif not await _came_back(context, ctx, previous, wanted):
            ctx.report(f"still out of reach: {', '.join(previous.out_of_reach)}")
            return
        lock = await lock_of(context, ctx, wanted, previous=previous, upgrade=())
        path = own_lock_path(context)
        save_lock(lock, path)
        for line in changes(previous, lock):
            if previous or line.startswith("!"):
                ctx.report(line)
        if context.settings.git_cache is None:  # a shared one is not ours to clear
            keep = [wanted.comfyui, *(pack.repository for pack in wanted.packs)]
            await to_the_end(kept_commits(context).forget, keep)
        packs, packages = len(lock.installed), len(lock.packages)
        ctx.report(f"{packs} packs and {packages} packages are locked, in {path}")

    there = kept is not None and not kept.lock.out_of_reach
    return Step(
        id="lock",
        summary="bring the lock up to date" if there else "settle commits and versions once",
        fingerprint="",
        stage="lock",
        timeout=1800 + context.settings.packs_timeout,
        retries=2,
        run=run,
        present=_never,  # it is planned only where it is needed
    )


def _never() -> bool:
    return False


async def _came_back(context: InstallContext, ctx: StepContext, lock: Lock, wanted: Wanted) -> bool:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_PATIENCE):
            return await came_back(wanted, _sources(context, ctx), lock)
    return False


def _nobody(_: str) -> None:
    """Questions to the solver that fail are part of the search."""
