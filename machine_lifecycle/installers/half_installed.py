"""Finding packages that an earlier end left half installed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import attrs

from machine_lifecycle.model.installing import StepContext

__all__ = ["SCRIPT", "Broken", "broken_packages", "read_broken"]

SCRIPT = """
import importlib.metadata, json, os, shutil, sys

packages, remains = [], []
for one in importlib.metadata.distributions():
    folder = getattr(one, "_path", None)
    if folder is None or not str(folder).endswith(".dist-info"):
        continue
    if one.read_text("METADATA") is None:
        if "--look" not in sys.argv:
            shutil.rmtree(folder)
        remains.append(os.path.basename(folder))
        continue
    def lacks(file):
        if str(file).endswith(".pyc"):
            return False
        try:
            return file.locate().stat().st_size < (file.size or 0)
        except OSError:
            return True
    if one.read_text("INSTALLER") is None or one.files is None or any(map(lacks, one.files)):
        packages.append(one.metadata["Name"] + "==" + one.version)
print(json.dumps({"packages": sorted(packages), "remains": remains}))
"""
"""Run by the environment's own Python. What every installed package should have is in its RECORD
(the binary distribution format of PyPA): each file, with its size. A folder without METADATA stops
every later installation, and belongs to a package that is not there; it is removed. INSTALLER is
what uv and pip write last. With ``--look`` nothing is removed."""


@attrs.frozen
class Broken:
    """What is broken in an environment.

    Attributes:
        packages: Names and versions of packages whose files are not all there.
        remains: Folders that were removed.
    """

    packages: tuple[str, ...]
    remains: tuple[str, ...]


def read_broken(text: str) -> Broken:
    """What ``SCRIPT`` said. Raises a ``ValueError`` if that is not what it says."""
    value = json.loads(text)
    return Broken(packages=tuple(value["packages"]), remains=tuple(value["remains"]))


async def broken_packages(
    ctx: StepContext, python: Path, env: Mapping[str, str]
) -> tuple[str, ...]:
    """Names of the packages of an environment whose files are not all there. Changes nothing."""
    looked = await ctx.run_command([str(python), "-I", "-c", SCRIPT, "--look"], env=env)
    return tuple(one.partition("==")[0] for one in read_broken(looked.output).packages)
