"""Looking, before an installation begins, at what it will need: all that lacks is told at once."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from machine_lifecycle.errors import LifecycleError, Problems
from machine_lifecycle.installers.base import Stamps
from machine_lifecycle.installers.errors import DiskFull, ProgramMissing
from machine_lifecycle.installers.git_errors import GitMissing
from machine_lifecycle.installers.packages import Environment
from machine_lifecycle.installers.preflight_errors import InodesShort, TorchNotForDriver
from machine_lifecycle.installers.space import places
from machine_lifecycle.installers.uv_program import uv_program
from machine_lifecycle.model.installing import DOWNLOADS, InstallContext, Step, StepContext

__all__ = ["LEAST_FILES", "driver_needed", "preflight"]

LEAST_FILES = 60_000
"""Files of an environment with torch."""
_DRIVERS = {11: (450, 80), 12: (525, 60), 13: (580, 65)}
"""The first driver for Linux that runs programs of a CUDA generation, whatever its minor version
(NVIDIA, CUDA Toolkit release notes, "CUDA Toolkit and Minimum Required Driver Version")."""
_CUDA = re.compile(r"cu(1[1-9])\d")


def driver_needed(backend: str) -> tuple[int, int] | None:
    """The oldest driver for a build of torch, ``cu128``; None for one that needs none."""
    found = _CUDA.fullmatch(backend)
    return _DRIVERS.get(int(found[1])) if found else None


def preflight(context: InstallContext, environment: Environment, steps: Sequence[Step]) -> Step:
    """The step that looks. It is done before the others, whenever one of those is to be done.

    Args:
        context: Of the installation.
        environment: Where packages go.
        steps: The others.
    """
    stamps = Stamps(context.home)

    def left() -> list[Step]:
        return [step for step in steps if not stamps.done(step)]

    async def run(ctx: StepContext) -> None:
        errors = await asyncio.to_thread(lambda: tuple(_problems(context, environment, left())))
        if errors:
            raise Problems(subject=f"what {context.service}'s installation needs", errors=errors)
        if environment.ours and not _can_link(environment):
            cache, *_ = places(environment.environ)
            ctx.report(
                f"packages are copied: nothing in {environment.python.parents[2]} can be linked to "
                f"{cache}. UV_CACHE_DIR on the same disk makes it faster"
            )

    return Step(
        id="preflight",
        summary="look at disk, programs and driver",
        fingerprint="1",
        timeout=60,
        run=run,
        present=lambda: not left(),
        makes=False,
    )


def _problems(
    context: InstallContext, environment: Environment, left: Sequence[Step]
) -> Iterator[LifecycleError]:
    path = context.environ.get("PATH", os.defpath)
    for name in sorted({name for step in left for name in step.programs}):
        if shutil.which(name, path=path) is None:
            yield GitMissing() if name == "git" else ProgramMissing(program=name)
    try:
        uv_program()
    except LifecycleError as error:
        yield error
    yield from _room(context, left)
    yield from _driver(context, environment)


def _room(context: InstallContext, left: Sequence[Step]) -> Iterator[LifecycleError]:
    # Downloads go to disks of their own, go on where they were, and look for room themselves.
    needed = sum(step.space for step in left if step.lane != DOWNLOADS)
    home = _nearest(context.home)
    disks = {home.stat().st_dev: home}
    cache = _nearest(places(context.environ)[0])
    disks.setdefault(cache.stat().st_dev, cache)  # what is downloaded lies there, too
    for folder in disks.values():
        free = shutil.disk_usage(folder).free
        if free < needed:
            yield DiskFull(folder=folder, free=free, needed=needed)
    stats = os.statvfs(home)
    files = LEAST_FILES if any(step.id == "torch" and step.space for step in left) else 0
    if stats.f_files and stats.f_favail < files:
        yield InodesShort(folder=home, free=stats.f_favail, needed=files)


def _driver(context: InstallContext, environment: Environment) -> Iterator[LifecycleError]:
    """Whether the driver runs the build of torch that was named; `auto` chooses one that fits."""
    hardware = context.hardware
    needed = driver_needed(environment.backend) if environment.ours else None
    parts = hardware.driver.split(".")
    if needed is None or not hardware.gpus or hardware.simulated or not parts[0].isdigit():
        return
    have = tuple(int(part) for part in parts[:2] if part.isdigit())
    if have < needed:
        yield TorchNotForDriver(
            backend=environment.backend,
            driver=hardware.driver,
            needed=".".join(str(part) for part in needed),
        )


def _can_link(environment: Environment) -> bool:
    """Whether files of uv's cache can be linked into the environment, by trying."""
    cache, home = _nearest(places(environment.environ)[0]), _nearest(environment.python.parents[2])
    try:
        with tempfile.NamedTemporaryFile(prefix=".machine-lifecycle-", dir=cache) as made:
            link = home / Path(made.name).name
            os.link(made.name, link)
            with contextlib.suppress(OSError):
                link.unlink()
    except OSError:
        return False
    return True


def _nearest(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    return next(one for one in (folder, *folder.parents) if one.is_dir())
