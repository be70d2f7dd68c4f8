"""ComfyUI's whole installation: real git, real environments, wheels made by hand, no index."""

from __future__ import annotations

import json
import os
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import attrs
import pytest

from machine_lifecycle.errors import Problems
from machine_lifecycle.installers.base import StepStatus
from machine_lifecycle.installers.comfyui import comfyui_python
from machine_lifecycle.installers.execute import Executor
from machine_lifecycle.model.paths import Paths
from machine_lifecycle.model.plan import InstallPlan
from machine_lifecycle.model.settings import Settings
from tests.support.progress import KeptProgress

MAIN = """
import sys
import requests, torch
assert sys.argv[1:] == ["--help"]
print("usage: main.py")
"""
GIT = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1", "PATH": os.defpath}


def _wheel(folder: Path, name: str, version: str, needs: str = "") -> None:
    """The smallest wheel that installs (PyPA's binary distribution format)."""
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": f"__version__ = {version!r}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        + (f"Requires-Dist: {needs}\n" if needs else ""),
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\n"
        "Tag: py3-none-any\n",
    }
    record = f"{info}/RECORD"
    files[record] = "".join(f"{path},,\n" for path in (*files, record))
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        for path, text in files.items():
            wheel.writestr(path, text)


def _repository(folder: Path, **files: str) -> str:
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)
    identity = ("-c", "user.name=a", "-c", "user.email=a@b")
    for words in (
        ("init", "--quiet", "--initial-branch=master"),
        ("add", "."),
        (*identity, "commit", "--quiet", "-m", "all"),
    ):
        subprocess.run(["git", *words], cwd=folder, check=True, env=GIT)  # noqa: S607
    return str(folder)


def _changes(clone: Path) -> str:
    argv = ["git", "status", "--porcelain", "main.py", "venv", ".machine-lifecycle"]
    done = subprocess.run(argv, cwd=clone, env=GIT, capture_output=True, check=True)
    return done.stdout.decode()


@attrs.frozen
class Bed:
    """A ComfyUI to install, and where."""

    root: Path
    settings: Settings
    environ: dict[str, str]

    @property
    def paths(self) -> Paths:
        return Paths(workspace=self.root / "ws", runtime=self.root / "rt")

    @property
    def home(self) -> Path:
        return self.paths.service("comfyui")

    def executor(self, *nodes: dict[str, object], **more: Any) -> Executor:
        listed = self.root / "config_nodes.json"
        listed.write_text(json.dumps({"custom_nodes": nodes}))
        settings = attrs.evolve(self.settings, comfyui_nodes=listed, **more)
        return Executor(self.paths, settings=settings, environ=self.environ, retry_wait=0.001)


@pytest.fixture
def bed(tmp_path: Path) -> Bed:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    for name in ("pip", "requests", "torchvision", "torchaudio", "small"):
        _wheel(wheels, name, "1.0")
    for version in ("2.0", "2.1"):
        _wheel(wheels, "torch", version)
    _wheel(wheels, "greedy", "1.0", "torch>=2.1")
    (tmp_path / "constraints.txt").write_text("torch<2.1\n")
    url = _repository(tmp_path / "origin", main__py=MAIN, requirements__txt="torch\nsmall\n")
    environ = {
        "PATH": os.defpath,
        "HOME": str(tmp_path),
        "PIP_FIND_LINKS": str(wheels),
        "PIP_NO_INDEX": "1",
        "UV_CONSTRAINT": str(tmp_path / "constraints.txt"),
        "UV_CACHE_DIR": str(tmp_path / "cache"),
        "HF_TOKEN": "hf-s3cret",
    }
    return Bed(tmp_path, Settings(comfyui_repo_url=url, torch_backend="none"), environ)


PLAN = InstallPlan(
    service="comfyui",
    installer="machine_lifecycle.installers.comfyui:ComfyUIInstaller",
    options={"branch": "main"},
)


def _modules(python: Path) -> set[str]:
    site = next((python.parent.parent / "lib").glob("python*/site-packages"))
    return {path.stem for path in site.glob("*.py")}


async def test_the_base_is_installed_once_and_again_when_it_is_gone(bed: Bed) -> None:
    sink = KeptProgress()
    assert await bed.executor().install(PLAN, "base", sink) == 6
    python = comfyui_python(bed.settings, bed.paths)
    assert {"torch", "small", "requests", "pip"} <= _modules(python)
    assert (bed.home / "models" / "checkpoints").is_dir()
    assert any("WARNING" in line and "main" in line for line in sink.lines)
    pins = (bed.home / ".machine-lifecycle/torch-constraints.txt").read_text()
    assert pins.split()[0] == "torch==2.0"
    assert _changes(bed.home) == ""

    assert await bed.executor().install(PLAN, "base", KeptProgress()) == 0
    python.unlink()
    assert (
        await bed.executor().install(PLAN, "base", KeptProgress()) == 4
    )  # environment and what is in it
    assert {"torch", "small"} <= _modules(python)


async def test_a_failing_pack_among_good_ones_is_named_and_the_rest_is_in(bed: Bed) -> None:
    good = _repository(bed.root / "good", requirements__txt="small\n", x="1")
    greedy = _repository(bed.root / "greedy", requirements__txt="greedy\n")
    nodes: tuple[dict[str, object], ...] = (
        {
            "name": "Good",
            "url": f"git clone {good}",
            "requirements": True,
            "env": {"HF_TOKEN": "${HF_TOKEN}", "UNSET": "${UNSET}"},
            "custom_script": "echo flat > made; python -c 'import torch'",
        },
        {"name": "Dead", "url": str(bed.root / "nowhere"), "requirements": True},
        {"name": "Greedy", "url": greedy, "requirements": True},
        {"name": "Script", "url": good, "custom_script": "echo no >&2; exit 7"},
    )
    run = bed.executor(*nodes)
    await run.install(PLAN, "base", KeptProgress())
    await run.install(PLAN, "nodes", KeptProgress())
    assert {one.subject for one in run.failures} == {"Dead", "Greedy", "Script"}
    codes = {one.subject: one.error.code for one in run.failures if one.error}
    assert codes == {
        "Dead": "git-clone-failed",
        "Greedy": "packages-failed",
        "Script": "install-command-failed",
    }
    blocked = [one.step for one in run.outcomes if one.status is StepStatus.BLOCKED]
    assert blocked == ["node Dead packages"]
    folder = bed.home / "custom_nodes" / "Good"
    assert (folder / "made").read_text() == "flat\n"
    assert (folder / ".env").read_text() == "HF_TOKEN=hf-s3cret\nUNSET=\n"
    assert (folder / ".env").stat().st_mode & 0o777 == 0o600
    stamps = (bed.home / ".machine-lifecycle/stamps").iterdir()
    assert "s3cret" not in "".join(path.read_text() for path in stamps)

    # Mended, only what had failed is done: clone and packages of one, the script of the other.
    _repository(bed.root / "nowhere", x="1")
    mended = tuple(
        {**node, "custom_script": "true"} if node["name"] == "Script" else node for node in nodes
    )
    again = bed.executor(*mended)
    assert await again.install(PLAN, "base", KeptProgress()) == 0
    assert await again.install(PLAN, "nodes", KeptProgress()) == 3
    assert {one.subject for one in again.failures} == {"Greedy"}


async def test_a_script_that_moves_torch_is_caught_and_torch_put_back(bed: Bed) -> None:
    pack = _repository(bed.root / "pack", x="1")
    uv = "env -u UV_CONSTRAINT uv pip install --no-index --python $PYTHON torch==2.1"
    run = bed.executor({"name": "Mover", "url": pack, "custom_script": uv})
    import uv as wheel  # noqa: PLC0415 - only its program's folder is wanted

    run = Executor(
        bed.paths,
        settings=attrs.evolve(bed.settings, comfyui_nodes=bed.root / "config_nodes.json"),
        environ=bed.environ
        | {"PATH": f"{Path(wheel.find_uv_bin()).parent}{os.pathsep}{os.defpath}"},
    )
    await run.install(PLAN, "base", KeptProgress())
    await run.install(PLAN, "nodes", KeptProgress())
    (failure,) = run.failures
    assert failure.error is not None
    assert failure.error.code == "torch-changed"
    site = comfyui_python(bed.settings, bed.paths).parent.parent
    assert list(site.glob("lib/python*/site-packages/torch-2.0.dist-info"))


async def test_a_required_pack_that_fails_fails_the_boot(bed: Bed) -> None:
    nowhere = str(bed.root / "nowhere")
    run = bed.executor({"name": "Must", "url": nowhere, "required": True})
    await run.install(PLAN, "base", KeptProgress())
    with pytest.raises(Problems) as caught:
        await run.install(PLAN, "nodes", KeptProgress())
    assert "Must" in str(caught.value)


async def test_a_comfyui_that_does_not_start_is_told_with_its_last_lines(bed: Bed) -> None:
    broken = _repository(
        bed.root / "broken", main__py="import nothing_there\n", requirements__txt="torch\n"
    )
    with pytest.raises(Problems) as caught:
        await bed.executor(comfyui_repo_url=broken).install(PLAN, "base", KeptProgress())
    (error,) = caught.value.errors
    assert error.code == "verification-failed"
    assert "nothing_there" in str(error)


async def test_an_environment_that_is_there_is_used_and_its_torch_kept(bed: Bed) -> None:
    await bed.executor().install(PLAN, "base", KeptProgress())
    python = bed.root / "there"
    (bed.home / "venv").rename(python)
    named = str(python / "bin" / "python")
    bed.environ["UV_CONSTRAINT"] = ""
    await bed.executor(comfyui_python=named).install(PLAN, "base", KeptProgress())
    assert not (bed.home / "venv").exists()
    assert list(python.glob("lib/python*/site-packages/torch-2.0.dist-info"))
