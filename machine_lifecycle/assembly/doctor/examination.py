"""What is looked at for one machine: its hardware, its plan, its queue."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Mapping

from machine_lifecycle.assembly.doctor import host, ports, programs
from machine_lifecycle.assembly.doctor.finding import Doubtful, NoPlan, Skipped
from machine_lifecycle.assembly.errors import ClockWrong, NoQueue, SpaceShort
from machine_lifecycle.assembly.from_settings import state_limits
from machine_lifecycle.assembly.planner import MachinePlanner
from machine_lifecycle.config.nodes import parse_nodes
from machine_lifecycle.errors import LifecycleError, as_one
from machine_lifecycle.model.hardware import GpuSource, Hardware
from machine_lifecycle.model.paths import Paths
from machine_lifecycle.model.plan import BootPlan
from machine_lifecycle.model.redis_url import RedisUrl
from machine_lifecycle.model.settings import RedisMode, Settings
from machine_lifecycle.model.text import counted, human_bytes
from machine_lifecycle.plan.errors import NoGpu
from machine_lifecycle.system.files import read_named
from machine_lifecycle.system.gpus import detect
from machine_lifecycle.system.valkey import find_server

__all__ = ["Examination"]

_GIB = 1 << 30
_ENVIRONMENT_CPU = 4 * _GIB
_ENVIRONMENT_CUDA = 14 * _GIB
"""Bytes that an installation of ComfyUI takes: an environment with torch for the CPU was measured
at 1.4 to 3.0 GB, with twenty node packs; the CUDA build brings some 7 GB of libraries, and the
downloads lie beside them until they are unpacked."""
_RUNNING = 1 * _GIB
"""Bytes for logs, outputs and the queue's file."""
_SKEW = 5.0
"""Seconds. Leases are 20 s and more; a quarter of that is still harmless."""
_NOTHING = Skipped(why="nothing is to be installed")


class Examination:
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
        """Whether it was ever set."""
        return host.clock()

    async def workspace(self) -> str:
        """Whether the folder can be used."""
        return host.workspace(self._paths.workspace)

    async def inodes(self) -> str | Skipped:
        """Whether there is room for as many files."""
        return host.inodes(self._paths.workspace)

    async def disk(self) -> str:
        """Whether there is room for what is to be installed."""
        needed, why = await self._bytes_needed()
        folder = host.nearest(self._paths.workspace)
        free = shutil.disk_usage(folder).free
        if free < needed:
            raise SpaceShort(folder=folder, free=free, needed=needed, why=why)
        return f"{free / _GIB:.1f} GiB free, {needed / _GIB:.0f} GiB needed for {why}"

    async def driver(self) -> str | Skipped:
        """Which driver tells of GPUs."""
        hardware = await asyncio.shield(self._hardware)
        if hardware.simulated:
            return Skipped(why="GPUs are simulated")
        if hardware.source is GpuSource.NONE:
            return Skipped(why="; ".join(hardware.notes) or "none is asked for")
        return f"NVIDIA {hardware.driver}" if hardware.driver else "NVIDIA, by nvidia-smi"

    async def gpu(self) -> str | Skipped | Doubtful:
        """Which GPUs there are, if any are asked for."""
        hardware = await asyncio.shield(self._hardware)
        notes = "; ".join(hardware.notes)
        if hardware.source is GpuSource.NONE:
            if lacking := [part for part in self._wrong(hardware) if isinstance(part, NoGpu)]:
                raise lacking[0]
            return Skipped(why="none, and none is asked for")
        if hardware.simulated:
            return f"{len(hardware.gpus)} simulated ({notes})"
        found = f"{len(hardware.gpus)} x {hardware.gpus[0].name}"
        return Doubtful(detail=f"{found} ({notes})") if notes else found

    # What is to run

    async def mapping(self) -> str:
        """Whether the service mapping can be read."""
        read = self._planner.mapping()
        workers, services = len(read.workers), len(read.services)
        return f"{read.source}: {counted(workers, 'worker type')}, {counted(services, 'service')}"

    async def plan(self) -> str | Skipped:
        """Whether what is asked for can be run here."""
        hardware = await asyncio.shield(self._hardware)
        try:
            self._planner.mapping()
        except LifecycleError as error:
            raise NoPlan from error  # the line of the mapping tells what is wrong
        if wrong := [part for part in self._wrong(hardware) if not isinstance(part, NoGpu)]:
            raise as_one("plan", wrong)
        state_limits(self._settings)  # refuses those of states that there are not
        made = await self._planned()
        return f"{self._settings.workers}: {counted(len(made.processes), 'process', 'processes')}"

    def _wrong(self, hardware: Hardware) -> tuple[LifecycleError, ...]:
        """Everything for which no plan can be made."""
        try:
            self._planner.plan(hardware)
        except LifecycleError as error:
            return error.parts()
        return ()

    async def ports(self) -> str | Doubtful:
        """Whether the ports of the plan are free."""
        return await ports.ports(await self._planned(), self._settings, self._paths)

    async def _planned(self) -> BootPlan:
        try:
            return self._planner.plan(await asyncio.shield(self._hardware))
        except LifecycleError as error:
            raise NoPlan from error

    # What installs it

    async def git(self) -> str | Skipped:
        """The git that repositories are brought with."""
        return await programs.git(self._environ) if await self._installs() else _NOTHING

    async def uv(self) -> str | Skipped:
        """The uv that packages are brought with."""
        return await programs.uv(self._environ) if await self._installs() else _NOTHING

    async def python(self) -> str | Skipped:
        """The environment that is to be used as it is."""
        if not self._settings.comfyui_python:
            return Skipped(why="COMFYUI_PYTHON is not set")
        return await programs.torch(self._settings.comfyui_python, self._environ)

    async def packs(self) -> str | Skipped:
        """Whether the list of node packs can be used."""
        path = self._settings.comfyui_nodes
        if not await self._installs():
            return _NOTHING
        if path is None:
            return Skipped(why="none is listed")
        listed = parse_nodes(read_named(path, "CONFIG_NODES_PATH"), self._environ, str(path))
        return f"{counted(len(listed), 'node pack')} listed in {path}"

    async def models(self) -> str | Skipped:
        """Whether the list of models can be used, and there is room for what lacks."""
        if not await self._installs():
            return _NOTHING
        from machine_lifecycle.assembly.listed_models import ListedModels  # noqa: PLC0415 - rarely

        states = ListedModels(self._settings, self._paths, self._environ).states()
        if not states:
            return Skipped(why="none is listed")
        lacking = [one for one in states if not one.there]
        if not lacking:
            return f"all {len(states)} are there"
        needed = sum(max(0, one.entry.size - one.have) for one in lacking)
        folder = host.nearest(lacking[0].path.parent)
        free = shutil.disk_usage(folder).free
        if free < needed:
            why = counted(len(lacking), "model")
            raise SpaceShort(folder=folder, free=free, needed=needed, why=why)
        unknown = sum(not one.entry.size for one in lacking)
        more = f", {unknown} of unknown size" if unknown else ""
        told = f"{len(lacking)} of {len(states)} to be downloaded, {human_bytes(needed)}{more}"
        return f"{told}; {human_bytes(free)} free"

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

    async def redis(self) -> str | Doubtful:
        """Whether the queue answers, and its clock is ours."""
        settings = self._settings
        if not settings.redis_url or settings.redis_mode is RedisMode.EMBEDDED:
            if settings.redis_mode is not RedisMode.EMBEDDED and not self._planner.simulated():
                raise NoQueue(workers=settings.workers)
            return f"a queue of this machine's own: {find_server().name} will be started"
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
            return Doubtful(detail=warnings[0].summary, error=warnings[0])
        return f"{where} answers in {(time.time() - began) * 1000:.1f} ms"
