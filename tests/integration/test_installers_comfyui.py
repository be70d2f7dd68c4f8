"""ComfyUI's whole installation: real git, real environments, wheels made by hand, no index."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import attrs
import pytest
from dotenv import dotenv_values

from machine_lifecycle.errors import Problems
from machine_lifecycle.installers.base import StepStatus
from machine_lifecycle.installers.comfyui_settings import comfyui_python
from machine_lifecycle.installers.execute import Executor
from tests.support.comfyui_bed import PLAN, Bed, make_bed, modules
from tests.support.git_server import Origin
from tests.support.progress import KeptProgress

GIT = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1", "PATH": os.defpath}


def _changes(clone: Path) -> str:
    argv = ["git", "status", "--porcelain", "main.py", "venv", ".machine-lifecycle"]
    done = subprocess.run(argv, cwd=clone, env=GIT, capture_output=True, check=True)
    return done.stdout.decode()


@pytest.fixture
def bed(tmp_path: Path) -> Bed:
    return make_bed(tmp_path)


async def test_the_base_is_installed_once_and_again_when_it_is_gone(bed: Bed) -> None:
    sink = KeptProgress()
    assert await bed.executor().install(PLAN, "base", sink) == 6
    python = comfyui_python(bed.settings, bed.paths)
    assert {"torch", "small", "requests", "pip"} <= modules(python)
    assert (bed.home / "models" / "checkpoints").is_dir()
    assert any("WARNING" in line and "main" in line for line in sink.lines)
    pins = (bed.home / ".machine-lifecycle/torch-constraints.txt").read_text()
    assert pins.splitlines()[1] == "torch==2.0"
    assert _changes(bed.home) == ""

    assert await bed.executor().install(PLAN, "base", KeptProgress()) == 0
    python.unlink()
    assert (
        await bed.executor().install(PLAN, "base", KeptProgress()) == 4
    )  # environment and what is in it
    assert {"torch", "small"} <= modules(python)


ODD = {
    "PLAIN": "a#b c",
    "COMMENT": "pass #word",
    "LINES": "-----BEGIN-----\nx\\n\n-----END-----",
    "QUOTES": "'it\\'s' \"so\"",
}
"""Values that a reader of ``.env`` files takes for others if they stand there as they are."""


async def test_a_failing_pack_among_good_ones_is_named_and_the_rest_is_in(bed: Bed) -> None:
    good = bed.pack("good", requirements__txt="small\n", x="1")
    greedy = bed.pack("greedy", requirements__txt="greedy\n")
    nodes: tuple[dict[str, object], ...] = (
        {
            "name": "Good",
            "url": f"git clone {good}",
            "requirements": True,
            "env": {"HF_TOKEN": "${HF_TOKEN}", "UNSET": "${UNSET}", **ODD},
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
    assert sorted(blocked) == ["node Dead packages", "node Dead script", "node Greedy script"]
    folder = bed.home / "custom_nodes" / "Good"
    assert (folder / "made").read_text() == "flat\n"
    assert (folder / ".env").read_text().startswith("HF_TOKEN=hf-s3cret\nUNSET=\nPLAIN=a#b c\n")
    read = dotenv_values(folder / ".env", interpolate=False)
    assert read == {"HF_TOKEN": "hf-s3cret", "UNSET": "", **ODD}, "as others read it"
    assert (folder / ".env").stat().st_mode & 0o777 == 0o600
    stamps = (bed.home / ".machine-lifecycle/stamps").iterdir()
    assert "s3cret" not in "".join(path.read_text() for path in stamps)

    # Mended, only what had failed is done: all steps of one, the script of the other.
    Origin(bed.root / "nowhere", x="1")
    mended = tuple(
        {**node, "custom_script": "true"} if node["name"] == "Script" else node for node in nodes
    )
    again = bed.executor(*mended)
    assert await again.install(PLAN, "base", KeptProgress()) == 0
    assert await again.install(PLAN, "nodes", KeptProgress()) == 4
    assert {one.subject for one in again.failures} == {"Greedy"}


async def test_a_script_that_moves_torch_is_caught_and_torch_put_back(bed: Bed) -> None:
    pack = bed.pack("pack", x="1")
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
    broken = bed.pack("broken", main__py="import nothing_there\n", requirements__txt="torch\n")
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
