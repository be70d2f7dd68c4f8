"""A tiny ComfyUI to install: local repositories, wheels made by hand, no index, no network."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path
from typing import Any

import attrs

from machine_lifecycle.installers.execute import Executor
from machine_lifecycle.model.paths import Paths
from machine_lifecycle.model.plan import InstallPlan
from machine_lifecycle.model.settings import Settings
from tests.support.git_server import Origin

__all__ = ["PLAN", "Bed", "bundled_pip", "make_bed", "modules", "wheel"]

MAIN = """
import sys
import requests, torch
assert sys.argv[1:] == ["--help"]
print("usage: main.py")
"""
PLAN = InstallPlan(
    service="comfyui",
    installer="machine_lifecycle.installers.comfyui:ComfyUIInstaller",
    options={"branch": "main"},
)


def wheel(folder: Path, name: str, version: str, *, needs: str = "", size: int = 0) -> Path:
    """The smallest wheel that installs (PyPA's binary distribution format).

    Args:
        folder: Where to.
        name: Of the package and of its module.
        version: Its version.
        needs: A requirement.
        size: Bytes of a further file in it, in a folder of the package's name with ``_data``.
    """
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": f"__version__ = {version!r}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        + (f"Requires-Dist: {needs}\n" if needs else ""),
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\n"
        "Tag: py3-none-any\n",
    }
    if size:
        files[f"{name}_data/big"] = "\0" * size
    record = f"{info}/RECORD"
    sizes = [f"{path},,{len(text.encode())}\n" for path, text in files.items()]
    files[record] = "".join((*sizes, f"{record},,\n"))
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for inner, text in files.items():
            archive.writestr(inner, text)
    return path


@attrs.frozen
class Bed:
    """A ComfyUI to install, and where."""

    root: Path
    settings: Settings
    environ: dict[str, str]

    @classmethod
    def at(cls, root: Path, environ: dict[str, str]) -> Bed:
        """The one whose repository and wheels are in a folder already."""
        url = str(root / "origin")
        return cls(root, Settings(comfyui_repo_url=url, torch_backend="none"), environ)

    @property
    def paths(self) -> Paths:
        return Paths(workspace=self.root / "ws", runtime=self.root / "rt")

    @property
    def home(self) -> Path:
        return self.paths.service("comfyui")

    @property
    def wheels(self) -> Path:
        return self.root / "wheels"

    @property
    def site(self) -> Path:
        """Where the packages of its own environment are."""
        return next((self.home / "venv" / "lib").glob("python*/site-packages"))

    def listed(self, *nodes: dict[str, Any]) -> Path:
        """A list of node packs."""
        path = self.root / "config_nodes.json"
        path.write_text(json.dumps({"custom_nodes": nodes}), encoding="utf-8")
        return path

    def executor(self, *nodes: dict[str, Any], **more: Any) -> Executor:
        settings = attrs.evolve(self.settings, comfyui_nodes=self.listed(*nodes), **more)
        return Executor(self.paths, settings=settings, environ=self.environ, retry_wait=0.001)

    def pack(self, name: str, **files: str) -> str:
        """A repository of a node pack; its address."""
        return Origin(self.root / "packs" / name, **files).url


def make_bed(root: Path, main: str = MAIN) -> Bed:
    """Repository, wheels and settings; torch 2.0 and 2.1 are to be had, and 2.0 is wanted."""
    environ = {
        "PATH": os.defpath,
        "HOME": str(root),
        "PIP_FIND_LINKS": str(root / "wheels"),
        "PIP_NO_INDEX": "1",
        "UV_CONSTRAINT": str(root / "constraints.txt"),
        "UV_CACHE_DIR": str(root / "cache"),
        "HF_TOKEN": "hf-s3cret",
    }
    bed = Bed.at(root, environ)
    bed.wheels.mkdir(parents=True)
    for name in ("pip", "requests", "torchvision", "torchaudio", "small"):
        wheel(bed.wheels, name, "1.0")
    for version in ("2.0", "2.1"):
        wheel(bed.wheels, "torch", version)
    wheel(bed.wheels, "greedy", "1.0", needs="torch>=2.1")
    (root / "constraints.txt").write_text("torch<2.1\n")
    Origin(root / "origin", main__py=main, requirements__txt="torch\nsmall\n")
    return bed


def bundled_pip(wheels: Path) -> None:
    """The pip of this Python instead of a stand-in: scripts of packs run it."""
    import ensurepip  # noqa: PLC0415 - only where a script runs pip

    (bundled,) = (Path(ensurepip.__file__).parent / "_bundled").glob("pip-*.whl")
    for stand_in in wheels.glob("pip-*"):
        stand_in.unlink()
    (wheels / bundled.name).write_bytes(bundled.read_bytes())
    with zipfile.ZipFile(bundled) as archive:  # as an index hands it out beside the wheel
        facts = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        (wheels / f"{bundled.name}.metadata").write_bytes(archive.read(facts))


def modules(python: Path) -> set[str]:
    """Names of the modules that were installed for a Python."""
    site = next((python.parent.parent / "lib").glob("python*/site-packages"))
    return {path.stem for path in site.glob("*.py")}
