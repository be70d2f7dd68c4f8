"""Packages of a Python that is there, as an index of their own: empty wheels with their facts.

Where no index answers, the solver is handed these. What it chooses is there already, so nothing has
to be fetched to install it.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from machine_lifecycle.model.installing import StepContext

__all__ = ["StandIns", "empty_wheel"]

_SCRIPT = """
import json, sys
from importlib.metadata import distributions
packages = {}
for one in distributions():
    facts = [one.version, one.requires or [], one.metadata.get_all("Provides-Extra") or []]
    packages.setdefault(one.metadata["Name"], facts)
with open(sys.argv[1], "w") as file:
    json.dump(packages, file)
"""
"""Run by that Python: version, requirements and extras of each package that an import finds. Into a
file, since those of some hundred packages are more than a program's output is kept of."""


def empty_wheel(
    folder: Path, name: str, version: str, requires: Sequence[str], extras: Sequence[str] = ()
) -> Path:
    """Write a wheel that holds nothing but what a package says of itself (PyPA's binary
    distribution format and core metadata).
    """
    module = canonicalize_name(name).replace("-", "_")
    info = f"{module}-{version}.dist-info"
    facts = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    facts += "".join(f"Provides-Extra: {one}\n" for one in extras)
    facts += "".join(f"Requires-Dist: {one}\n" for one in requires)
    path = folder / f"{module}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{info}/METADATA", facts)
        archive.writestr(
            f"{info}/WHEEL",
            "Wheel-Version: 1.0\nGenerator: machine-lifecycle\n"
            "Root-Is-Purelib: true\nTag: py3-none-any\n",
        )
        archive.writestr(f"{info}/RECORD", "")
    return path


@attrs.frozen(kw_only=True)
class StandIns:
    """What is installed for one Python, for the solver.

    Attributes:
        folder: With a wheel for each package.
        versions: By name.
        digests: Of the wheels, as a lock writes them.
    """

    folder: Path
    versions: Mapping[str, str]
    digests: frozenset[str]

    @classmethod
    async def of(
        cls, ctx: StepContext, python: Path, env: Mapping[str, str], folder: Path
    ) -> StandIns:
        """Look at a Python, and write its packages into a folder. Changes nothing else."""
        with tempfile.NamedTemporaryFile(prefix="machine-lifecycle-packages-") as told:
            await ctx.run_command([str(python), "-c", _SCRIPT, told.name], env=env)
            return await asyncio.to_thread(cls._written, json.load(told), folder)

    @classmethod
    def _written(cls, packages: Mapping[str, Sequence[Any]], folder: Path) -> StandIns:
        folder.mkdir(parents=True, exist_ok=True)
        versions: dict[str, str] = {}
        digests = set()
        for name, (said, requires, extras) in packages.items():
            try:
                version = str(Version(said))
            except InvalidVersion:  # a version from before PEP 440, which the solver can't use
                continue
            readable = [line for line in requires if _is_readable(line)]
            wheel = empty_wheel(folder, name, version, readable, extras)
            versions[canonicalize_name(name)] = version
            digests.add(f"sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}")
        return cls(folder=folder, versions=versions, digests=frozenset(digests))


def _is_readable(line: str) -> bool:
    try:
        Requirement(line)
    except InvalidRequirement:
        return False
    return True
