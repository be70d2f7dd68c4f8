"""How long 64 node packs take, beside what the boot replaces, over one and the same link.

Run ``python -m tests.benchmarks.installing [--small] [--peers] [--keep FOLDER]``. Repositories and
wheels are made on the spot and served over loopback through a link of 50 ms and 100 Mbit/s. One run
measures: full clones five at once with pip for each pack; the same with uv; ours with nothing
there, without locks, making the lock first, and from a lock; ours in a new workspace with the
caches of the run before; ours with nothing to do; with ``--peers`` also ComfyUI-Manager and
comfy-cli, which it has to get from an index. It prints the times, the bytes that came over
the link, and the ratios. Hold the ratios, not the times.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path

import attrs
import click
from uv import find_uv_bin

from machine_lifecycle.installers.command import CommandRunner, Journal, Redactor
from machine_lifecycle.installers.execute import Executor
from machine_lifecycle.installers.lockfile import lock_path, save_lock
from machine_lifecycle.installers.locking_step import lock_of, wanted_of
from machine_lifecycle.model.choices import LockMode
from machine_lifecycle.model.installing import InstallContext, StepContext
from machine_lifecycle.model.paths import Paths
from machine_lifecycle.model.plan import InstallPlan
from machine_lifecycle.model.settings import Settings
from tests.benchmarks.installing.link import Link, through
from tests.benchmarks.installing.peers import Peer, made
from tests.benchmarks.installing.serving import serving
from tests.benchmarks.installing.world import SIZES, SMALL, World, make_world

PLAN = InstallPlan(
    service="comfyui",
    installer="machine_lifecycle.installers.comfyui:ComfyUIInstaller",
    options={"branch": "main"},
)
AT_ONCE = 5
"""Packs that the algorithm of old installs at once."""


@attrs.frozen
class Bed:
    """A world behind a link, and a folder for this run."""

    world: World
    link: Link
    address: str
    folder: Path

    def environ(self, caches: str) -> dict[str, str]:
        """Variables for all that installs; nothing of this machine's own settings."""
        index = f"{self.address}/simple"
        return {
            "PATH": os.defpath + ":/usr/local/bin",
            "HOME": str(self.folder),
            "UV_DEFAULT_INDEX": index,
            "UV_CACHE_DIR": str(self.folder / caches / "uv"),
            "UV_INSECURE_HOST": "127.0.0.1",
            "PIP_INDEX_URL": index,
            "PIP_CACHE_DIR": str(self.folder / caches / "pip"),
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "XDG_CACHE_HOME": str(self.folder / caches),
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_TERMINAL_PROMPT": "0",
        }


@attrs.frozen
class Figure:
    """What one way took.

    Attributes:
        seconds: From its start to its end.
        bytes: That came over the link.
        failed: Packs that were not installed.
    """

    seconds: float
    bytes: int
    failed: int

    def __add__(self, other: Figure) -> Figure:
        """Both, one after the other."""
        return Figure(
            self.seconds + other.seconds, self.bytes + other.bytes, self.failed + other.failed
        )


async def measured(bed: Bed, run: Callable[[], Awaitable[int]]) -> Figure:
    """What *run*, which gives the number of packs that failed, takes."""
    began, before = time.perf_counter(), bed.link.down
    failed = await run()
    return Figure(time.perf_counter() - began, bed.link.down - before, failed)


async def of_old(bed: Bed, name: str, install: Sequence[str]) -> Figure:
    """Full clones, five packs at once, an installer for each."""
    home = bed.folder / name
    python = home / "venv" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", str(home / "venv")], check=True)  # noqa: ASYNC221
    environ, slots = bed.environ(f"caches-{name}"), asyncio.Semaphore(AT_ONCE)

    async def call(*argv: str) -> bool:
        child = await asyncio.create_subprocess_exec(
            *argv, env=environ, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
        )
        return await child.wait() == 0

    async def one(pack: str) -> bool:
        async with slots:
            target = home / "custom_nodes" / pack
            good = await call("git", "clone", f"{bed.address}/git/{pack}.git", str(target))
            if good and bed.world.packs[pack]:
                words = [word.replace("PYTHON", str(python)) for word in install]
                good = await call(*words, "-r", str(target / "requirements.txt"))
            return good

    async def run() -> int:
        done = await asyncio.gather(*(one(pack) for pack in bed.world.packs))
        return done.count(False)

    return await measured(bed, run)


class Silent:
    """A progress sink that nobody looks at."""

    def step(self, name: str, detail: str = "", *, done: int = 0, total: int = 0) -> None:
        """Take it."""

    def finished(self, name: str, *, seconds: float, skipped: bool = False) -> None:
        """Take it."""


class Ours:
    """Our installer in one workspace."""

    def __init__(self, bed: Bed, workspace: str, mode: LockMode = LockMode.MAKE) -> None:
        self._bed = bed
        nodes = bed.folder / "config_nodes.json"
        nodes.write_text(bed.world.listed(f"{bed.address}/git"), "utf-8")
        home = bed.folder / workspace
        self._context = InstallContext(
            service="comfyui",
            options=PLAN.options,
            settings=Settings(
                comfyui_repo_url=f"{bed.address}/git/ComfyUI.git",
                comfyui_nodes=nodes,
                comfyui_lock=mode,
                git_cache=bed.folder / "caches-ours" / "commits",
                torch_backend="none",
                install_concurrency=16,
            ),
            environ=bed.environ("caches-ours"),
            paths=Paths(workspace=home, runtime=home / "rt"),
        )
        self._run = Executor(
            self._context.paths,
            settings=self._context.settings,
            environ=self._context.environ,
            concurrency=self._context.settings.install_concurrency,
        )

    async def lock(self) -> Figure:
        """The lock of the list, beside it."""
        context, path = self._context, lock_path(self._context)
        run = CommandRunner(
            log=self._bed.folder / "lock.log",
            journal=Journal(self._bed.folder / "lock.jsonl"),
            redact=Redactor(),
            report=lambda _: None,
        )
        ctx = StepContext(report=lambda _: None, run_command=run)

        async def make() -> int:
            wanted = await wanted_of(context, ctx)
            lock = await lock_of(context, ctx, wanted, previous=None, upgrade=None)
            save_lock(lock, path)
            return len(lock.quarantined)

        return await measured(self._bed, make)

    async def base(self) -> None:
        """ComfyUI itself, which the others are not asked for."""
        await self._run.install(PLAN, "base", Silent())

    async def settle(self) -> Figure:
        """The lock that a boot makes where there is none."""

        async def run() -> int:
            return 1 - await self._run.install(PLAN, "lock", Silent())

        return await measured(self._bed, run)

    async def packs(self) -> Figure:
        """The packs."""

        async def run() -> int:
            await self._run.install(PLAN, "nodes", Silent())
            return len(self._run.failures)

        return await measured(self._bed, run)


async def by_peer(bed: Bed, peer: Peer) -> Figure:
    """All packs by one command of another tool."""
    addresses = (f"{bed.address}/git/{pack}.git" for pack in bed.world.packs)

    async def run() -> int:
        child = await asyncio.create_subprocess_exec(
            *(*peer.argv, *addresses),
            env=bed.environ(f"caches-{peer.home.name}") | {"COMFYUI_PATH": str(peer.home)},
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        await child.wait()
        return peer.missing(bed.world.packs)

    return await measured(bed, run)


async def compare(bed: Bed, peers: Sequence[Peer] = ()) -> dict[str, Figure]:
    """Every way, one after the other."""
    found = {}
    found["full clones, 5 at once, pip each"] = await of_old(
        bed, "pip", ("PYTHON", "-m", "pip", "install")
    )
    found["the same with uv each"] = await of_old(
        bed, "uv", (str(find_uv_bin()), "pip", "install", "--python", "PYTHON")
    )
    for peer in peers:
        found[peer.name] = await by_peer(bed, peer)
    loose = Ours(bed, "loose", LockMode.OFF)
    await loose.base()
    found["ours without locks, nothing there"] = await loose.packs()
    shutil.rmtree(bed.folder / "caches-ours")
    new = Ours(bed, "new")
    made = await new.settle()
    await new.base()
    found["ours, nothing there, no lock yet"] = made + await new.packs()
    shutil.rmtree(bed.folder / "caches-ours")
    found["(the lock, made once)"] = await Ours(bed, "desk").lock()
    shutil.rmtree(bed.folder / "caches-ours")
    first = Ours(bed, "first")
    await first.base()
    found["ours, nothing there, from a lock"] = await first.packs()
    second = Ours(bed, "second")
    await second.base()
    found["ours, new workspace, caches there"] = await second.packs()
    found["ours, nothing to do"] = await second.packs()
    return found


@contextlib.contextmanager
def bed_of(world: World, link: Link, folder: Path) -> Iterator[Bed]:
    """The world, served over the link."""
    with serving(world.git, world.wheels) as port, through(link, port) as shown:
        yield Bed(world, link, f"http://127.0.0.1:{shown}", folder)


@click.command()
@click.option("--small", is_flag=True, help="Nine packs instead of 64.")
@click.option("--keep", type=click.Path(path_type=Path), help="Make the repositories here, once.")
@click.option("--peers", is_flag=True, help="Get other tools from the index, and measure them.")
@click.option("--round-trip", default=50.0, show_default=True, help="Milliseconds.")
@click.option("--mbit", default=100.0, show_default=True, help="Width of the link.")
def main(*, small: bool, keep: Path | None, peers: bool, round_trip: float, mbit: float) -> None:
    """Measure it all and print it."""
    folder = Path(tempfile.mkdtemp(prefix="installing-"))
    try:
        world = make_world(keep or folder / "world", SMALL if small else SIZES)
        link = Link(round_trip=round_trip / 1000, width=mbit * 1e6 / 8)
        with bed_of(world, link, folder) as bed:
            others = made(folder / "peers") if peers else ()
            found = asyncio.run(compare(bed, others))
        base = next(iter(found.values()))
        print(
            f"{len(world.packs)} packs, {round_trip:g} ms, {mbit:g} Mbit/s, {os.cpu_count()} cores"
        )
        for name, one in found.items():
            times = base.seconds / one.seconds
            share = 100 * one.bytes / base.bytes
            print(
                f"{name:<40} {one.seconds:8.2f} s  {times:7.1f} x  "
                f"{one.bytes / 1e6:8.1f} MB  {share:5.1f} %  {one.failed} failed"
            )
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
