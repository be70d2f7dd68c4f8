"""Torch stays what it was, whoever installs what: real environments, wheels made by hand."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import attrs
import pytest

from machine_lifecycle.errors import LifecycleError, Problems
from machine_lifecycle.installers.blocklist import blocked_packages
from machine_lifecycle.installers.package_errors import (
    RequirementUnreadable,
    TorchIndexUnreachable,
    TorchMissing,
)
from tests.support.comfyui_bed import PLAN, Bed, bundled_pip, make_bed, wheel
from tests.support.progress import KeptProgress


@pytest.fixture
def bed(tmp_path: Path) -> Bed:
    return make_bed(tmp_path)


def torch_of(site: Path) -> set[str]:
    return {path.name for path in site.glob("torch-*.dist-info")}


async def fails(bed: Bed, **more: Any) -> LifecycleError:
    with pytest.raises(Problems) as caught:
        await bed.executor(**more).install(PLAN, "base", KeptProgress())
    (error,) = caught.value.errors
    return error


async def nodes(bed: Bed, *packs: dict[str, Any], **environ: str) -> dict[str, str]:
    """Install packs; the codes of those that failed, by name."""
    bed = attrs.evolve(bed, environ={**bed.environ, **environ})
    run = bed.executor(*packs)
    await run.install(PLAN, "base", KeptProgress())
    await run.install(PLAN, "nodes", KeptProgress())
    return {one.subject: one.error.code for one in run.failures if one.error}


@pytest.mark.parametrize(
    "script",
    [
        "pip install --upgrade torch",
        "python -m pip install torch==2.1",
        "pip install greedy",
        "env -u PIP_CONSTRAINT pip install --upgrade torch",
        "$UV pip install torch==2.1 --no-index",
        "$UV pip install --upgrade torch --no-index",
    ],
)
async def test_no_script_moves_torch(bed: Bed, script: str) -> None:
    import uv  # noqa: PLC0415 - only its program is wanted

    bundled_pip(bed.wheels)
    pack = bed.pack("pack", x="1")
    script = script.replace("$UV", str(uv.find_uv_bin()))
    failed = await nodes(bed, {"name": "Mover", "url": pack, "custom_script": script})
    assert torch_of(bed.site) == {"torch-2.0.dist-info"}
    # What can't be had is a failure of the pack; what is satisfied already is none.
    asks_for_more = "==" in script or "greedy" in script
    assert failed == ({"Mover": "install-command-failed"} if asks_for_more else {})


async def test_a_script_that_gets_round_the_pins_is_named_and_torch_put_back(bed: Bed) -> None:
    bundled_pip(bed.wheels)
    pack = bed.pack("pack", x="1")
    # It fails as well, afterwards: torch is looked at all the same.
    script = "env -u PIP_CONSTRAINT PIP_CONFIG_FILE=/dev/null pip install --upgrade torch && exit 3"
    failed = await nodes(bed, {"name": "Mover", "url": pack, "custom_script": script})
    assert failed == {"Mover": "torch-changed"}
    assert torch_of(bed.site) == {"torch-2.0.dist-info"}


async def test_a_torch_that_can_not_be_put_back_is_told_and_put_back_by_the_next_boot(
    bed: Bed,
) -> None:
    bundled_pip(bed.wheels)
    kept = bed.wheels / "torch-2.0-py3-none-any.whl"
    away = f"env -u PIP_CONSTRAINT PIP_CONFIG_FILE=/dev/null pip install --upgrade torch; rm {kept}"
    bed.environ["UV_NO_CACHE"] = "1"  # so that it can come from the wheels alone
    run = bed.executor({"name": "Mover", "url": bed.pack("pack", x="1"), "custom_script": away})
    await run.install(PLAN, "base", KeptProgress())
    await run.install(PLAN, "nodes", KeptProgress())
    (failure,) = run.failures
    assert failure.error is not None
    assert failure.error.code == "torch-changed"
    assert "could not be put back" in failure.error.summary
    assert torch_of(bed.site) == {"torch-2.1.dist-info"}
    wheel(bed.wheels, "torch", "2.0")
    # The pack is gone from the list; torch is put back nevertheless.
    assert await bed.executor().install(PLAN, "base", KeptProgress()) > 0
    assert torch_of(bed.site) == {"torch-2.0.dist-info"}


async def test_a_requirement_of_another_torch_fails_its_pack_alone(bed: Bed) -> None:
    other = bed.pack("other", requirements__txt="torch==2.1\n")
    good = bed.pack("good", requirements__txt="torch\nsmall\n")
    failed = await nodes(
        bed,
        {"name": "Other", "url": other, "requirements": True},
        {"name": "Good", "url": good, "requirements": True},
    )
    assert failed == {"Other": "packages-failed"}
    assert torch_of(bed.site) == {"torch-2.0.dist-info"}


async def test_another_build_is_brought_when_it_is_asked_for(bed: Bed) -> None:
    await bed.executor().install(PLAN, "base", KeptProgress())
    (bed.site / "torch.py").unlink()  # comes back with the other build
    pins = bed.home / ".machine-lifecycle" / "torch-constraints.txt"
    assert pins.read_text().startswith("# torch for the package index\n")
    assert await bed.executor(torch_backend="cpu").install(PLAN, "base", KeptProgress()) > 0
    assert pins.read_text().startswith("# torch for cpu\n")
    assert (bed.site / "torch.py").exists()
    assert await bed.executor(torch_backend="cpu").install(PLAN, "base", KeptProgress()) == 0


async def test_an_environment_without_torch_is_not_filled(bed: Bed) -> None:
    argv = [sys.executable, "-m", "venv", "--without-pip", str(bed.root / "bare")]
    subprocess.run(argv, check=True)  # noqa: S603, ASYNC221, RUF100 - a venv made by hand
    python = bed.root / "bare" / "bin" / "python"
    error = await fails(bed, comfyui_python=str(python))
    assert isinstance(error, TorchMissing)
    assert error.remedies[0].command is not None
    assert error.remedies[0].command.startswith(f"uv pip install --python {python} torch ")
    assert not torch_of(next((bed.root / "bare").glob("lib/python*/site-packages")))


async def test_a_build_that_can_not_be_reached_says_what_to_do(bed: Bed) -> None:
    for name in ("PIP_NO_INDEX", "PIP_FIND_LINKS", "UV_CONSTRAINT"):
        bed.environ.pop(name)
    # A proxy that is not there stands for a network that ends at the door.
    bed.environ.update({"ALL_PROXY": "http://127.0.0.1:9", "UV_HTTP_RETRIES": "0"})
    error = await fails(bed, torch_backend="cpu")
    assert isinstance(error, TorchIndexUnreachable)
    assert error.url.startswith("https://download.pytorch.org/whl/cpu")
    assert "export TORCH_BACKEND=none" in str(error)


@pytest.mark.parametrize(
    ("text", "line"), [("torch\n\n# x\npip install small\n", 4), ("small\n--nonsense\n", 2)]
)
async def test_a_line_that_is_no_requirement_is_named(bed: Bed, text: str, line: int) -> None:
    url = bed.pack("broken", requirements__txt=text, main__py="")
    error = await fails(bed, comfyui_repo_url=url)
    assert isinstance(error, RequirementUnreadable)
    assert (error.file, error.line) == (bed.home / "requirements.txt", line)
    assert text.splitlines()[line - 1] in str(error)
    assert error.remedies[0].command == f"sed -n {line}p {error.file}"


async def test_settings_reach_every_program_that_installs(bed: Bed) -> None:
    """A script sees what the machine was told, in the names of both programs."""
    seen = bed.root / "seen"
    failed = await nodes(
        bed,
        {"name": "Env", "url": bed.pack("p", x="1"), "custom_script": f"env > {seen}; which pip"},
        PIP_EXTRA_INDEX_URL="http://127.0.0.1:9/a http://127.0.0.1:9/b",
        UV_INDEX_URL="http://127.0.0.1:9/simple",
        PIP_TARGET="/elsewhere",
    )
    assert failed == {}
    env = dict(line.split("=", 1) for line in seen.read_text().splitlines() if "=" in line)
    pins = str(bed.home / ".machine-lifecycle" / "protected.txt")
    mine = str(bed.root / "constraints.txt")
    (harmful,) = blocked_packages()
    assert env["PIP_CONSTRAINT"] == env["UV_CONSTRAINT"] == f"{mine} {harmful} {pins}"
    assert env["PIP_INDEX_URL"] == env["UV_INDEX_URL"] == "http://127.0.0.1:9/simple"
    assert env["UV_INDEX"] == env["PIP_EXTRA_INDEX_URL"]
    assert env["UV_FIND_LINKS"] == env["PIP_FIND_LINKS"] == str(bed.wheels)
    assert env["UV_PYTHON"] == env["PYTHON"] == str(bed.home / "venv" / "bin" / "python")
    assert env["PATH"].split(os.pathsep)[0] == str(bed.home / "venv" / "bin")
    assert "PIP_TARGET" not in env
    assert "HF_TOKEN" not in env


async def test_a_workspace_with_blanks_in_its_name(tmp_path: Path) -> None:
    bed = make_bed(tmp_path)
    blank = Bed(tmp_path / "my machine", bed.settings, bed.environ)
    blank.root.mkdir()
    bundled_pip(bed.wheels)
    pack = bed.pack("pack", requirements__txt="small\n")
    failed = await nodes(
        blank,
        {
            "name": "P",
            "url": pack,
            "requirements": True,
            "custom_script": "pip install --upgrade torch",
        },
    )
    assert failed == {}
    assert torch_of(blank.site) == {"torch-2.0.dist-info"}


async def test_a_half_installed_package_is_found_and_installed_again(bed: Bed) -> None:
    wheel(bed.wheels, "fat", "1.0", size=1000)
    pack = bed.pack("pack", requirements__txt="fat\n")
    await bed.executor().install(PLAN, "base", KeptProgress())
    # As a kill in the middle of an installation leaves them, and a folder without facts.
    uv_says_installed = bed.site / "fat-1.0.dist-info"
    await nodes(bed, {"name": "P", "url": pack, "requirements": True})
    assert uv_says_installed.is_dir()
    (bed.site / "fat_data" / "big").unlink()  # it is a link into uv's cache
    (bed.site / "fat_data" / "big").write_bytes(b"\0" * 10)
    (bed.site / "small.py").unlink()
    remains = bed.site / "gone-1.0.dist-info"
    remains.mkdir()
    (bed.home / ".machine-lifecycle" / "packages-under-way").touch()
    again = bed.pack("again", requirements__txt="requests\n")
    assert await nodes(bed, {"name": "Q", "url": again, "requirements": True}) == {}
    assert (bed.site / "fat_data" / "big").stat().st_size == 1000
    assert (bed.site / "small.py").exists()
    assert not remains.exists()
    assert not (bed.home / ".machine-lifecycle" / "packages-under-way").exists()
