"""Looks at the programs by which a machine installs."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Mapping
from pathlib import Path

from machine_lifecycle.installers.errors import ProgramMissing
from machine_lifecycle.installers.git_errors import GitMissing
from machine_lifecycle.installers.package_errors import TorchMissing

__all__ = ["git", "torch", "uv"]


async def git(environ: Mapping[str, str]) -> str:
    """The git that repositories are brought with."""
    program = shutil.which("git", path=environ.get("PATH"))
    if program is None:
        raise GitMissing
    return await _said(environ, program, "--version")


async def uv(environ: Mapping[str, str]) -> str:
    """The uv that packages are brought with."""
    from uv import find_uv_bin  # noqa: PLC0415 - only where something is installed

    try:
        program = find_uv_bin()
    except FileNotFoundError as error:
        raise ProgramMissing(program="uv") from error
    return await _said(environ, str(program), "--version")


async def torch(named: str, environ: Mapping[str, str]) -> str:
    """The torch of an environment that is to be used as it is."""
    ask = "import importlib.metadata as m; print('torch', m.version('torch'))"
    try:
        found = await _said(environ, named, "-c", ask)
    except ProgramMissing as error:
        raise TorchMissing(python=Path(named)) from error
    return found


async def _said(environ: Mapping[str, str], *argv: str) -> str:
    """The first line that a program prints."""
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=dict(environ),
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
