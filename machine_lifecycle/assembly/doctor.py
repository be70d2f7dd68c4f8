"""Looks, before a boot, at everything that a boot will need. Changes nothing."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from enum import Enum
from pathlib import Path

import attrs

from machine_lifecycle.assembly.errors import ClockWrong, InodesShort, NoQueue, SpaceShort
from machine_lifecycle.assembly.planner import MachinePlanner
from machine_lifecycle.errors import LifecycleError
from machine_lifecycle.installers.errors import ProgramMissing
from machine_lifecycle.installers.git_errors import GitMissing
from machine_lifecycle.installers.package_errors import TorchMissing
from machine_lifecycle.model.hardware import GpuSource
from machine_lifecycle.model.paths import Paths
from machine_lifecycle.model.plan import BootPlan
from machine_lifecycle.model.redis_url import RedisUrl
from machine_lifecycle.model.settings import RedisMode, Settings
from machine_lifecycle.plan.errors import PortTaken
from machine_lifecycle.system.errors import BadFolder
from machine_lifecycle.system.gpus import detect
from machine_lifecycle.system.network import listeners

__all__ = ["Finding", "Verdict", "examine"]

_GIB = 1 << 30
_ENVIRONMENT_CPU = 4 * _GIB
_ENVIRONMENT_CUDA = 14 * _GIB
"""Bytes that an installation of ComfyUI takes: an environment with torch for the CPU was measured
at 1.4 to 3.0 GB, with twenty node packs; the CUDA build brings some 7 GB of libraries, and the
downloads lie beside them until they are unpacked."""
_RUNNING = 1 * _GIB
"""Bytes for logs, outputs and the queue's file."""
_LEAST_INODES = 100_000
"""An environment with torch is some 60,000 files."""
_LIMIT = 20.0
"""Seconds for one look; a driver that wakes up takes three."""
_BUILT = 1_735_689_600
"""1 January 2025: a clock before that was never set."""
_SKEW = 5.0
"""Seconds. Leases are 20 s and more; a quarter of that is still harmless."""


class Verdict(Enum):
    """How one look came out."""

    PASS = "pass"  # noqa: S105 - a verdict
    WARN = "warn"
    """A boot would go on, perhaps not as is meant."""
    FAIL = "fail"
    SKIP = "skip"
    """It does not matter for this machine."""


@attrs.frozen(kw_only=True)
class Finding:
    """What one look found.

    Attributes:
        name: What was looked at.
        detail: What was found, in a line.
        error: What a boot would fail with, or stumble over; it has the remedies.
        seconds: How long the look took.
    """

    name: str
    verdict: Verdict
    detail: str
    error: LifecycleError | None = None
    seconds: float = 0.0


@attrs.frozen(kw_only=True)
class _Skipped:
    why: str


@attrs.frozen(kw_only=True)
class _Doubtful:
    detail: str
    error: LifecycleError | None = None


class _NoPlan(Exception):
    """A look needs a plan, and none can be made."""


_Look = Callable[[], Awaitable["str | _Skipped | _Doubtful"]]


async def examine(
    settings: Settings, environ: Mapping[str, str], paths: Paths, machine_id: str
) -> AsyncIterator[Finding]:
    """Look at everything at once; yields in a fixed order, as soon as each is known.

    Args:
        settings: Of the machine.
        environ: The environment that its processes would inherit.
        paths: Its folders, which need not be there yet.
        machine_id: Its id, for the plan.
    """
    planner = MachinePlanner(settings=settings, paths=paths, machine_id=machine_id, environ=environ)
    patient = _Examination(settings, environ, paths, planner)
    looks: dict[str, _Look] = {
        "clock": patient.clock,
        "workspace": patient.workspace,
        "disk": patient.disk,
        "inodes": patient.inodes,
        "gpu": patient.gpu,
        "plan": patient.plan,
        "ports": patient.ports,
        "git": patient.git,
        "uv": patient.uv,
        "python": patient.python,
        "redis": patient.redis,
    }
    running = [asyncio.create_task(_judged(name, look)) for name, look in looks.items()]
    try:
        for task in running:
            yield await task
    finally:
        for task in running:
            task.cancel()


async def _judged(name: str, look: _Look) -> Finding:
    began = time.monotonic()
    error: LifecycleError | None = None
    try:
        async with asyncio.timeout(_LIMIT):
            found = await look()
    except TimeoutError:
        verdict, detail = Verdict.WARN, f"no answer within {_LIMIT:g} s"
    except _NoPlan:
        verdict, detail = Verdict.SKIP, "there is no plan"
    except LifecycleError as raised:
        (first, *others) = raised.parts()
        error = raised if others else first
        verdict, detail = Verdict.FAIL, error.summary
    else:
        match found:
            case _Skipped(why=why):
                verdict, detail = Verdict.SKIP, why
            case _Doubtful():
                verdict, detail, error = Verdict.WARN, found.detail, found.error
            case _:
                verdict, detail = Verdict.PASS, found
    seconds = time.monotonic() - began
    return Finding(name=name, verdict=verdict, detail=detail, error=error, seconds=seconds)


class _Examination:
    """The looks. Each says in a line what it found, or raises what a boot would fail with."""

    def __init__(
        self,
        settings: Settings,
        environ: Mapping[str, str],
        paths: Paths,
        planner: MachinePlanner,
    ) -> None:
        self._settings = settings
        self._environ = environ
        self._paths = paths
        self._planner = planner
        self._hardware = asyncio.ensure_future(asyncio.to_thread(detect, settings))

    # The host

    async def clock(self) -> str:
        now = time.time()
        if now < _BUILT:
            raise ClockWrong(now=now, reference="the year this was written in")
        return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now))

    async def workspace(self) -> str:
        wanted = self._paths.workspace
        folder = _nearest(wanted)
        try:
            # Permissions say little to root or of a read-only disk. This file has no name.
            tempfile.TemporaryFile(dir=folder).close()
            in_the_way = [one for one in (wanted, *wanted.parents) if one.is_file()]
        except OSError as error:
            problem = f"can't be written to: {error.strerror}"
            raise BadFolder(folder=folder, problem=problem, variable="WORKSPACE_PATH") from error
        if in_the_way:
            problem = "is a file, where a folder is needed"
            raise BadFolder(folder=in_the_way[0], problem=problem, variable="WORKSPACE_PATH")
        return f"{wanted} {'is there' if wanted.is_dir() else 'will be made'}"

    async def disk(self) -> str:
        needed, why = await self._bytes_needed()
        folder = _nearest(self._paths.workspace)
        free = shutil.disk_usage(folder).free
        if free < needed:
            raise SpaceShort(folder=folder, free=free, needed=needed, why=why)
        return f"{free / _GIB:.1f} GiB free, {needed / _GIB:.0f} GiB needed for {why}"

    async def inodes(self) -> str | _Skipped:
        folder = _nearest(self._paths.workspace)
        stats = os.statvfs(folder)
        if not stats.f_files:
            return _Skipped(why="this file system counts none")
        if stats.f_favail < _LEAST_INODES:
            raise InodesShort(folder=folder, free=stats.f_favail, needed=_LEAST_INODES)
        return f"{stats.f_favail:,} free"

    async def gpu(self) -> str | _Skipped | _Doubtful:
        hardware = await asyncio.shield(self._hardware)
        notes = "; ".join(hardware.notes)
        if hardware.source is GpuSource.NONE:
            return _Skipped(why=notes or "no GPU")
        if hardware.simulated:
            return f"{len(hardware.gpus)} simulated ({notes})"
        driver = f", driver {hardware.driver}" if hardware.driver else ""
        found = f"{len(hardware.gpus)} x {hardware.gpus[0].name}{driver}"
        return _Doubtful(detail=f"{found} ({notes})") if notes else found

    # What is to run

    async def plan(self) -> str:
        made = self._planner.plan(await asyncio.shield(self._hardware))
        return f"{self._settings.workers}: {len(made.processes)} processes"

    async def ports(self) -> str | _Doubtful:
        made = await self._planned()
        host = self._settings.health_host
        wanted = [("the health pages", host, self._settings.health_port, "MACHINE_HEALTH_PORT")]
        wanted += [(one.name, one.host, one.port or 0, "") for one in made.processes]
        taken = await asyncio.to_thread(listeners)
        for who, where, port, variable in wanted:
            if port and port in taken:
                error = PortTaken(
                    host=where, port=port, wanted_by=who, owner=taken[port], variable=variable
                )
                # It may be this machine itself, which runs.
                return _Doubtful(detail=error.summary, error=error)
        return ", ".join(str(port) for _, _, port, _ in wanted if port) + " are free"

    async def _planned(self) -> BootPlan:
        try:
            return self._planner.plan(await asyncio.shield(self._hardware))
        except LifecycleError as error:
            raise _NoPlan from error

    # What installs it

    async def git(self) -> str | _Skipped:
        if not await self._installs():
            return _Skipped(why="nothing is to be installed")
        program = shutil.which("git", path=self._environ.get("PATH"))
        if program is None:
            raise GitMissing
        return await self._said(program, "--version")

    async def uv(self) -> str | _Skipped:
        if not await self._installs():
            return _Skipped(why="nothing is to be installed")
        from uv import find_uv_bin  # noqa: PLC0415 - only where something is installed

        try:
            program = find_uv_bin()
        except FileNotFoundError as error:
            raise ProgramMissing(program="uv") from error
        return await self._said(str(program), "--version")

    async def python(self) -> str | _Skipped:
        named = self._settings.comfyui_python
        if not named:
            return _Skipped(why="COMFYUI_PYTHON is not set")
        ask = "import importlib.metadata as m; print('torch', m.version('torch'))"
        try:
            found = await self._said(named, "-c", ask)
        except ProgramMissing as error:
            raise TorchMissing(python=Path(named)) from error
        return found

    async def _said(self, *argv: str) -> str:
        """The first line that a program prints."""
        try:
            process = await asyncio.create_subprocess_exec(
                *argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                env=dict(self._environ),
            )
        except OSError as error:
            raise ProgramMissing(program=argv[0]) from error
        try:
            out, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode:
            raise ProgramMissing(program=argv[0])
        return out.decode("utf-8", "replace").strip().partition("\n")[0]

    async def _installs(self) -> bool:
        made = await self._planned()
        return any(one.installer for one in made.installs)

    async def _bytes_needed(self) -> tuple[int, str]:
        hardware = await asyncio.shield(self._hardware)
        if not await self._installs():
            return _RUNNING, "logs and outputs"
        if self._settings.comfyui_python or self._paths.service("comfyui").is_dir():
            return _RUNNING, "logs, outputs and node packs"
        real = hardware.gpus and not hardware.simulated and not self._settings.comfyui_cpu_mode
        return (_ENVIRONMENT_CUDA if real else _ENVIRONMENT_CPU), "an environment with torch"

    # The queue

    async def redis(self) -> str | _Skipped | _Doubtful:
        settings = self._settings
        if not settings.redis_url or settings.redis_mode is RedisMode.EMBEDDED:
            if settings.redis_mode is not RedisMode.EMBEDDED and not self._planner.simulated():
                raise NoQueue(workers=settings.workers)
            return _Skipped(why="the machine runs a queue of its own")
        from machine_lifecycle.system.redis import check, connect  # noqa: PLC0415

        redis = connect(settings.redis_url)
        try:
            warnings = await check(redis, settings.redis_url)
            began = time.time()
            seconds, micros = await redis.time()
        finally:
            await redis.aclose()
        skew = abs(seconds + micros / 1e6 - (began + time.time()) / 2)
        where = RedisUrl.parse(settings.redis_url).address
        if skew > _SKEW:
            raise ClockWrong(now=time.time(), reference=f"Redis at {where}", skew=skew)
        if warnings:
            return _Doubtful(detail=warnings[0].summary, error=warnings[0])
        return f"{where} answers in {(time.time() - began) * 1000:.1f} ms"


def _nearest(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    while not folder.is_dir():
        folder = folder.parent
    return folder
