"""Python environments and the packages in them, with the program uv."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

import attrs
from packaging.utils import canonicalize_name

from machine_lifecycle.installers.compiling import LockedPackage
from machine_lifecycle.installers.errors import CommandFailed, CommandTimeout
from machine_lifecycle.installers.half_installed import SCRIPT, Broken, read_broken
from machine_lifecycle.installers.package_errors import (
    PackagesFailed,
    TorchMissing,
    packages_failed,
)
from machine_lifecycle.installers.protection import Protection
from machine_lifecycle.installers.site_packages import SitePackages
from machine_lifecycle.installers.uv_program import uv_program
from machine_lifecycle.installers.variables import (
    package_environment,
    protected_file,
    without_index,
)
from machine_lifecycle.model.hardware import GpuSource, Hardware
from machine_lifecycle.model.installing import StepContext
from machine_lifecycle.model.settings import Settings
from machine_lifecycle.system.files import write_atomically

__all__ = ["TORCH_FAMILY", "Environment", "torch_backend"]

TORCH_FAMILY = ("torch", "torchvision", "torchaudio")

_MADE_FOR = "# torch for "
_UNDER_WAY = "what is being installed"


def torch_backend(settings: Settings, hardware: Hardware, environ: Mapping[str, str]) -> str:
    """Which build of torch a new environment gets, in uv's words; empty for the index's own."""
    if named := settings.torch_backend or environ.get("UV_TORCH_BACKEND", ""):
        return "" if named == "none" else named
    real = hardware.gpus and hardware.source in {GpuSource.NVML, GpuSource.NVIDIA_SMI}
    return "auto" if real and not settings.comfyui_cpu_mode else "cpu"


@attrs.frozen(kw_only=True)
class Environment:
    """One Python environment of a service.

    Attributes:
        python: Its interpreter.
        ours: Whether it is made here; else it was there before and is never made or removed.
        constraints: File with the versions of torch and its family, once they are known.
        environ: The machine's environment.
        backend: Build of torch for one that is made here, in uv's words; empty for the index's own.
        blocked: Files of constraints that keep out what is never installed.
    """

    python: Path
    ours: bool
    constraints: Path
    environ: Mapping[str, str] = attrs.field(repr=False)
    backend: str = ""
    blocked: tuple[Path, ...] = ()

    @property
    def env(self) -> dict[str, str]:
        """The environment variables for installations into it, and for scripts of node packs."""
        files = (self.protection.constraints, self.constraints)
        pinned = [path for path in files if path.exists()][:1]
        # What is there decides which build it is; asking that build's index needs a network.
        backend = self.backend if self.ours else ""
        env = package_environment(
            self.environ, constraints=(*self.blocked, *pinned), backend=backend
        )
        env["PATH"] = os.pathsep.join(filter(None, (str(self.python.parent), env.get("PATH", ""))))
        env["PYTHON"] = env["UV_PYTHON"] = str(self.python)
        if self.ours:
            env["VIRTUAL_ENV"] = str(self.python.parent.parent)
        else:  # the user named this Python (COMFYUI_PYTHON), be it the system's
            env["PIP_BREAK_SYSTEM_PACKAGES"] = env["UV_BREAK_SYSTEM_PACKAGES"] = "1"
        return env

    @property
    def protection(self) -> Protection:
        """What no pack may move."""
        return Protection(protected_file(self.constraints.parent.parent))

    @property
    def site_packages(self) -> SitePackages:
        """Where its packages are."""
        told = self.constraints.with_name("python-path.json")
        return SitePackages(self.python, None if self.ours else told)

    def has(self, packages: Sequence[LockedPackage]) -> bool:
        """Whether these are there, as far as the names of folders tell."""
        return self.site_packages.have({one.name: one.version for one in packages})

    @property
    def _mark(self) -> Path:
        return self.constraints.with_name("packages-under-way")

    async def make(self, ctx: StepContext) -> None:
        """Make it, or check that it is there.

        Raises:
            ProgramMissing: There is no uv, or not the interpreter that was named.
            PackagesFailed: It can't be made.
        """
        if self.ours:
            folder = str(self.python.parent.parent)
            try:
                await ctx.run_command(
                    [uv_program(), "venv", "--clear", "--python", sys.executable, folder],
                    env=self.env,
                )
            except CommandFailed as error:
                raise PackagesFailed.of(error, "the environment", self.python) from error
            self._mark.unlink(missing_ok=True)
        await self.site_packages.look(ctx, self.env)

    async def install(self, ctx: StepContext, what: Sequence[str], *, shown: str) -> None:
        """Install *what*: arguments of ``uv pip install``.

        Raises:
            PackagesFailed: They can't be installed.
            RequirementUnreadable: A line of a file is no requirement.
            TorchIndexUnreachable: The build of torch can't be had from where it is kept.
        """
        async with self.changing(ctx):
            await self._install(ctx, what, shown)

    async def _install(self, ctx: StepContext, what: Sequence[str], shown: str) -> None:
        argv = [uv_program(), "pip", "install", "--python", str(self.python), *what]
        if without_index(self.environ):
            argv.append("--no-index")
        try:
            await ctx.run_command(argv, env=self.env)
        except CommandTimeout:
            raise
        except CommandFailed as error:
            raise packages_failed(error, shown, self.python, self.backend) from error

    @contextlib.asynccontextmanager
    async def changing(self, ctx: StepContext) -> AsyncIterator[None]:
        """Around all that changes packages: what an earlier end cut short is mended first.

        Programs that install packages call one installed as soon as its list of facts is there; a
        kill or a full disk in the middle leaves such a one without half of its files.

        Raises:
            PackagesFailed: What is broken can't be mended.
        """
        if self._mark.exists():
            await self._mend(ctx)
        self._mark.parent.mkdir(parents=True, exist_ok=True)
        self._mark.touch()
        yield
        self._mark.unlink(missing_ok=True)

    async def _mend(self, ctx: StepContext) -> None:
        looked = await ctx.run_command([str(self.python), "-I", "-c", SCRIPT], env=self.env)
        broken: Broken = read_broken(looked.output)
        for remains in broken.remains:
            ctx.report(f"removed {remains}, which an earlier end had left half made")
        if broken.packages:
            ctx.report(f"half installed by an earlier end, installed again: {broken.packages}")
            again = ("--no-deps", "--reinstall", *broken.packages)
            await self._install(ctx, again, ", ".join(broken.packages))

    async def versions(self, ctx: StepContext) -> dict[str, str]:
        """Versions of all packages that are installed, by name."""
        words = ("list", "--quiet", "--format", "json", "--python", str(self.python))
        # Its output is data for us: it is not shown as progress.
        listed = await ctx.run_command([uv_program(), "pip", *words], env=self.env)
        return {
            canonicalize_name(str(one["name"])): str(one["version"])
            for one in json.loads(listed.output)
        }

    async def torch(self, ctx: StepContext) -> dict[str, str]:
        """Versions of torch and its family that are installed."""
        found = await self.versions(ctx)
        return {name: found[name] for name in TORCH_FAMILY if name in found}

    def pinned(self) -> tuple[str, dict[str, str]]:
        """Which build the pins were made for (empty if unknown), and the pins."""
        try:
            lines = self.constraints.read_text("utf-8").splitlines()
        except OSError:
            return "", {}
        made_for = [line[len(_MADE_FOR) :] for line in lines if line.startswith(_MADE_FOR)]
        pins = [line.partition("==") for line in lines if "==" in line]
        return "".join(made_for[:1]), {name: version for name, _, version in pins}

    def _pin(self, made_for: str, versions: Mapping[str, str]) -> None:
        pins = "".join(f"{name}=={version}\n" for name, version in versions.items())
        write_atomically(self.constraints, f"{_MADE_FOR}{made_for}\n{pins}")

    def torch_is_there(self) -> bool:
        """Whether torch and its family are what they were pinned to, as far as folders tell."""
        return self.constraints.exists() and self.site_packages.have(self.pinned()[1])

    async def install_torch(self, ctx: StepContext) -> None:
        """Have torch: what is there is kept, else it is installed; then pin it.

        Raises:
            PackagesFailed: It can't be installed.
            TorchIndexUnreachable: Nor asked for.
            TorchMissing: There is none in an environment that is used as it is.
        """
        found = await self.torch(ctx)
        made_for, pins = self.pinned()
        if not self.ours and "torch" not in found:
            raise TorchMissing(python=self.python)
        build = self.backend or "the package index"
        if self.ours:
            other = made_for not in {"", build}
            if other or set(found) != set(TORCH_FAMILY):
                self._pin(_UNDER_WAY, {})  # the pins of another build must not hold it back
                anew = [word for name in TORCH_FAMILY for word in ("--reinstall-package", name)]
                await self.install(ctx, [*TORCH_FAMILY, *(anew if other else ())], shown="torch")
                found, pins = await self.torch(ctx), {}
        cut_short = self.ours or self._mark.exists()
        if cut_short and any(found.get(name) != version for name, version in pins.items()):
            await self.put_back(ctx, pins)
            found = await self.torch(ctx)
        self._pin(build, found)
        ctx.report(f"torch stays as it is: {', '.join(_words(found)) or 'there is none'}")

    async def put_back(self, ctx: StepContext, pins: Mapping[str, str]) -> None:
        """Install these versions again.

        Raises:
            PackagesFailed: They can't be had.
        """
        await self.install(ctx, _words(pins), shown="torch")


def _words(versions: Mapping[str, str]) -> list[str]:
    return [f"{name}=={version}" for name, version in versions.items()]
