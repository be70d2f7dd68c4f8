"""What an installation will need is looked at before it begins, all of it at once."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from machine_lifecycle.errors import LifecycleError, Problems
from machine_lifecycle.installers.execute import Executor
from machine_lifecycle.installers.preflight import driver_needed
from machine_lifecycle.model.choices import LockMode
from machine_lifecycle.model.hardware import Gpu, GpuSource, Hardware
from tests.support.comfyui_bed import PLAN, Bed, make_bed
from tests.support.progress import KeptProgress


@pytest.fixture
def bed(tmp_path: Path) -> Bed:
    return make_bed(tmp_path)


def hardware(driver: str) -> Hardware:
    gpu = Gpu(index=0, name="GPU", memory_mib=1, uuid="GPU-0", visible="GPU-0")
    return Hardware(gpus=(gpu,), source=GpuSource.NVML, driver=driver)


async def refused(bed: Bed, there: Hardware | None = None, *, torch: str) -> list[LifecycleError]:
    run = Executor(
        bed.paths,
        settings=attrs.evolve(bed.settings, torch_backend=torch),
        environ=bed.environ,
        hardware=lambda: there or Hardware(),
    )
    with pytest.raises(Problems) as raised:
        await run.install(PLAN, "base", KeptProgress())
    assert not bed.home.joinpath(".git").exists(), "nothing was begun"
    return list(raised.value.errors)


async def test_all_that_lacks_is_told_at_once(bed: Bed) -> None:
    bed.environ["PATH"] = str(bed.root / "nothing")
    found = await refused(bed, hardware("535.104.05"), torch="cu130")
    assert [error.code for error in found] == ["git-missing", "torch-not-for-driver"]
    assert found[1].summary == (
        "torch for cu130 needs a driver of version 580.65 or later; this machine has 535.104.05"
    )


@pytest.mark.parametrize(
    ("backend", "needed"),
    [("cu118", (450, 80)), ("cu121", (525, 60)), ("cu128", (525, 60)), ("cu130", (580, 65))],
)
def test_which_driver_a_build_needs(backend: str, needed: tuple[int, int]) -> None:
    assert driver_needed(backend) == needed


@pytest.mark.parametrize("backend", ["", "cpu", "auto", "none", "rocm6.3", "cu999"])
def test_what_needs_none(backend: str) -> None:
    assert driver_needed(backend) is None


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 8 MiB with hardly any files."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["/bin/mount", "-t", "tmpfs", "-o", "size=8m,nr_inodes=500", "tmpfs", str(place)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip("this user mounts nothing")
    yield place
    subprocess.run(["/bin/umount", str(place)], check=True)


async def test_room_and_files_are_counted_before(bed: Bed, small_disk: Path) -> None:
    (bed.root / "ws").symlink_to(small_disk)
    found = await refused(bed, torch="cpu")
    assert [error.code for error in found] == ["disk-full", "inodes-short"]
    assert "needed" in found[0].summary
    assert "60,000" in found[1].summary


async def test_a_model_looks_for_room_on_its_own_disk_and_costs_itself_alone(bed: Bed) -> None:
    listed = bed.root / "models.json"
    model = {"url": "http://127.0.0.1:9/m", "target": "loras/m", "size": 1 << 49}
    listed.write_text(json.dumps([model]), "utf-8")
    run = bed.executor(models_manifest=listed)
    await run.install(PLAN, "base", KeptProgress())
    assert [one.step for one in run.failures] == ["model loras/m"]


async def test_what_is_done_needs_no_room(bed: Bed, tmp_path: Path) -> None:
    await bed.executor().install(PLAN, "base", KeptProgress())
    bed.environ["PATH"] = str(tmp_path / "nothing")
    progress = KeptProgress()
    assert await bed.executor().install(PLAN, "base", progress) == 0
    assert "preflight skipped" in progress.lines


async def test_packs_that_are_left_out_need_no_git(bed: Bed, tmp_path: Path) -> None:
    out = {"name": "Bad", "url": "https://example.org/bad"}
    (tmp_path / "blocked.txt").write_text("Bad\n")
    more: dict[str, Any] = {
        "blocked_packs": tmp_path / "blocked.txt",
        "comfyui_lock": LockMode.OFF,
    }
    await bed.executor(**more).install(PLAN, "base", KeptProgress())
    bed.environ["PATH"] = str(tmp_path / "nothing")
    run = bed.executor(out, **more)
    await run.install(PLAN, "base", KeptProgress())
    await run.install(PLAN, "nodes", KeptProgress())
    assert [one.error and one.error.code for one in run.failures] == ["pack-blocked"]
    with pytest.raises(Problems, match="git"):
        await bed.executor({**out, "name": "Good"}, comfyui_lock=LockMode.OFF).install(
            PLAN, "base", KeptProgress()
        )


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    """A folder on another file system."""
    place = Path("/dev/shm")  # noqa: S108 - what else is sure to be one
    if not place.is_dir() or place.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is one file system only")
    folder = place / f"machine-lifecycle-{os.getpid()}"
    folder.mkdir()
    yield folder
    shutil.rmtree(folder)


async def test_a_cache_that_can_not_be_linked_is_told(bed: Bed, elsewhere: Path) -> None:
    bed.environ["UV_CACHE_DIR"] = str(elsewhere)
    progress = KeptProgress()
    await bed.executor().install(PLAN, "base", progress)
    assert any(line.startswith("preflight: packages are copied") for line in progress.lines)
