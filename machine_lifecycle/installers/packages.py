"""Python environments and the packages in them, with the program uv.

What pip's variables say (index, find-links, constraints) is said to uv too, and the other way
round for scripts that run pip: one setting reaches every installation.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import attrs

from machine_lifecycle.installers.base import write_atomically
from machine_lifecycle.installers.errors import (
    CommandFailed,
    CommandTimeout,
    PackagesFailed,
    ProgramMissing,
    TorchChanged,
)
from machine_lifecycle.model.hardware import GpuSource, Hardware
from machine_lifecycle.model.installing import StepContext
from machine_lifecycle.model.settings import Settings

__all__ = ["Environment", "package_environment", "torch_backend"]

TORCH_FAMILY = ("torch", "torchvision", "torchaudio")

_PASSED = (
    *("PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "TMPDIR", "XDG_CACHE_HOME"),
    *("LD_LIBRARY_PATH", "CC", "CXX", "CFLAGS", "CXXFLAGS", "LDFLAGS", "MAX_JOBS", "CUDA_HOME"),
    *("CUDA_PATH", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
    *("http_proxy", "https_proxy", "all_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY"),
    *("ALL_PROXY", "NO_PROXY", "SSH_AUTH_SOCK"),
)
_PASSED_PREFIXES = ("LC_", "PIP_", "UV_", "GIT_CONFIG_", "GIT_SSL_", "NVIDIA_", "TORCH_")

# pip's name, uv's name, and what stands between several values for uv (pip: a blank).
_TWINS = (
    ("PIP_INDEX_URL", "UV_DEFAULT_INDEX", " "),
    ("PIP_EXTRA_INDEX_URL", "UV_INDEX", " "),
    ("PIP_FIND_LINKS", "UV_FIND_LINKS", ","),
    ("PIP_CONSTRAINT", "UV_CONSTRAINT", " "),
    ("PIP_CERT", "SSL_CERT_FILE", " "),
    ("PIP_TRUSTED_HOST", "UV_INSECURE_HOST", " "),
)


def torch_backend(settings: Settings, hardware: Hardware) -> str:
    """Which build of torch a new environment gets, in uv's words; empty for the index's own."""
    if settings.torch_backend:
        return "" if settings.torch_backend == "none" else settings.torch_backend
    real = hardware.gpus and hardware.source in {GpuSource.NVML, GpuSource.NVIDIA_SMI}
    return "auto" if real and not settings.comfyui_cpu_mode else "cpu"


def package_environment(
    environ: Mapping[str, str], *, constraints: Path | None = None, backend: str = ""
) -> dict[str, str]:
    """The environment for programs that install packages: no secrets, no questions.

    Args:
        environ: The machine's environment.
        constraints: Versions that must not move, beside those of the environment.
        backend: Build of torch, in uv's words; empty: as the environment says.
    """
    env = {
        name: value
        for name, value in environ.items()
        if name in _PASSED or name.startswith(_PASSED_PREFIXES)
    }
    for pip, uv, between in _TWINS:
        if env.get(pip) and not env.get(uv):
            env[uv] = between.join(env[pip].split())
        elif env.get(uv) and not env.get(pip):
            env[pip] = " ".join(env[uv].split(between))
    if constraints is not None:
        for name in ("PIP_CONSTRAINT", "UV_CONSTRAINT"):
            env[name] = f"{env.get(name, '')} {constraints}".strip()
    if backend:
        env["UV_TORCH_BACKEND"] = backend
    return env | {
        "PIP_NO_INPUT": "1",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "UV_NO_PROGRESS": "1",
        "UV_PYTHON_DOWNLOADS": "never",
        "PYTHONUNBUFFERED": "1",
    }


def _uv() -> str:
    from uv import find_uv_bin  # noqa: PLC0415 - only when something is installed

    try:
        return str(find_uv_bin())
    except FileNotFoundError as error:
        raise ProgramMissing(program="uv") from error


@attrs.frozen(kw_only=True)
class Environment:
    """One Python environment of a service.

    Attributes:
        python: Its interpreter.
        ours: Whether it is made here; else it was there before and is never made or removed.
        constraints: File with the versions of torch and its family, once they are known.
        environ: The machine's environment.
        backend: Build of torch for one that is made here, in uv's words; empty for the index's own.
    """

    python: Path
    ours: bool
    constraints: Path
    environ: Mapping[str, str] = attrs.field(repr=False)
    backend: str = ""

    @property
    def env(self) -> dict[str, str]:
        """The environment variables for installations into it, and for scripts of node packs."""
        pinned = self.constraints if self.constraints.exists() else None
        # What is there decides which build it is; asking that build's index needs a network.
        backend = self.backend if self.ours else ""
        env = package_environment(self.environ, constraints=pinned, backend=backend)
        env["PATH"] = os.pathsep.join(filter(None, (str(self.python.parent), env.get("PATH", ""))))
        env["PYTHON"] = str(self.python)
        if self.ours:
            env["VIRTUAL_ENV"] = str(self.python.parent.parent)
        return env

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
                    [_uv(), "venv", "--clear", "--python", sys.executable, folder], env=self.env
                )
            except CommandFailed as error:
                raise self._failed("the environment", error) from error
        await ctx.run_command([str(self.python), "--version"], env=self.env)

    async def install(self, ctx: StepContext, what: Sequence[str], *, shown: str) -> None:
        """Install *what*: arguments of ``uv pip install``.

        Raises:
            PackagesFailed: They can't be installed.
        """
        argv = [_uv(), "pip", "install", "--python", str(self.python), *what]
        if self.environ.get("PIP_NO_INDEX", "0") not in {"", "0", "false"}:
            argv.append("--no-index")  # uv has no variable for it
        if not self.ours:
            argv.append("--break-system-packages")  # it was named as the one to use
        try:
            await ctx.run_command(argv, env=self.env)
        except CommandTimeout:
            raise
        except CommandFailed as error:
            raise self._failed(shown, error) from error

    def _failed(self, what: str, error: CommandFailed) -> PackagesFailed:
        return PackagesFailed(
            what=what, python=self.python, log=error.log, context=error.context[-15:]
        )

    async def torch(self, ctx: StepContext) -> dict[str, str]:
        """Versions of torch and its family that are installed."""
        argv = [_uv(), "pip", "list", "--quiet", "--format", "json", "--python", str(self.python)]
        # Its own line is data: it is read, and not part of the story that is reported.
        listed = await ctx.run_command(argv, env=self.env)
        found = {str(one["name"]): str(one["version"]) for one in json.loads(listed.output)}
        return {name: found[name] for name in TORCH_FAMILY if name in found}

    async def install_torch(self, ctx: StepContext) -> None:
        """Have torch: what is there is kept, else it is installed; then pin it.

        Raises:
            PackagesFailed: It can't be installed.
        """
        found = await self.torch(ctx)
        if self.ours and set(found) != set(TORCH_FAMILY):
            await self.install(ctx, TORCH_FAMILY, shown="torch")
            found = await self.torch(ctx)
        pins = "".join(f"{name}=={version}\n" for name, version in found.items())
        write_atomically(self.constraints, pins)
        ctx.report(f"torch stays as it is: {', '.join(pins.split()) or 'there is none'}")

    async def check_torch(self, ctx: StepContext, by: str) -> None:
        """Check that torch is what it was; if not, put it back.

        Raises:
            TorchChanged: *by* changed it.
        """
        pins = self.constraints.read_text("utf-8").split() if self.constraints.exists() else []
        found = await self.torch(ctx)
        for pin in pins:
            name, _, version = pin.partition("==")
            if found.get(name) != version:
                await self.install(ctx, pins, shown="torch")
                after = f"{name}=={found[name]}" if name in found else "nothing"
                raise TorchChanged(before=pin, after=after, by=by)
