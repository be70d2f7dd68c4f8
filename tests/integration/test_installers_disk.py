"""A disk that is full in the middle of an installation: a real one of a few MiB."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from machine_lifecycle.errors import Problems
from machine_lifecycle.installers.comfyui import ComfyUIInstaller
from machine_lifecycle.installers.errors import DiskFull
from machine_lifecycle.installers.execute import Executor
from machine_lifecycle.model.installing import InstallContext, Step
from machine_lifecycle.model.paths import Paths
from tests.support.comfyui_bed import PLAN, Bed, make_bed, wheel
from tests.support.git_server import Origin
from tests.support.progress import KeptProgress
from tests.support.small_disk import fill, small_disk

MIB = 1 << 20
SIZE = 8
NEEDED = 6 * MIB
LEFT = 3 * MIB


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", SIZE) as folder:
        yield folder


class Unlooking:
    """ComfyUI's installer, as if the disk got full after it was looked at."""

    def plan(self, context: InstallContext) -> tuple[Step, ...]:
        steps = ComfyUIInstaller().plan(context)
        return tuple(attrs.evolve(one, after=()) for one in steps if one.id != "preflight")


@attrs.frozen
class OnDisk(Bed):
    """A bed whose workspace is on the small disk."""

    def executor(self, *nodes: dict[str, Any], **more: Any) -> Executor:
        settings = attrs.evolve(self.settings, comfyui_nodes=self.listed(*nodes), **more)
        return Executor(
            self.paths,
            settings=settings,
            environ=self.environ,
            retry_wait=0.001,
            resolve=lambda _: Unlooking(),
        )

    @property
    def paths(self) -> Paths:
        return Paths(workspace=self.root / "disk" / "ws", runtime=self.root / "rt")


@pytest.fixture
def bed(tmp_path: Path, disk: Path) -> Bed:
    made = make_bed(tmp_path)
    assert disk == tmp_path / "disk"
    return OnDisk(tmp_path, made.settings, made.environ)


async def full(bed: Bed, *nodes: dict[str, Any]) -> DiskFull:
    with pytest.raises(Problems) as caught:
        await bed.executor(*nodes).install(PLAN, "base", KeptProgress())
    (error,) = caught.value.errors
    assert isinstance(error, DiskFull), error
    return error


def check_words(error: DiskFull, disk: Path) -> None:
    assert error.folder.is_relative_to(disk)
    # No more than was left: uv may have removed what it had begun.
    assert error.free <= LEFT
    assert not error.recoverable
    assert f"{error.free / MIB:,.0f} MiB free" in error.summary
    assert f"df -h {error.folder}" in str(error.remedies[0])


async def test_a_clone_that_does_not_fit_leaves_nothing_and_fits_later(
    bed: Bed, disk: Path
) -> None:
    origin = Origin(bed.root / "large", main__py="import torch\n", requirements__txt="torch\n")
    (origin.folder / "model.bin").write_bytes(bytes(range(256)) * (3 * MIB // 256))
    origin.commit(c="1")
    bed = attrs.evolve(bed, settings=attrs.evolve(bed.settings, comfyui_repo_url=origin.url))
    ballast = fill(disk, leave=MIB)
    check_words(await full(bed), disk)
    assert not (bed.home / ".git").exists()
    assert not list(bed.paths.workspace.glob(".*clone*"))
    ballast.unlink()
    assert await bed.executor().install(PLAN, "base", KeptProgress()) == 6


async def test_packages_that_do_not_fit_are_not_taken_for_installed(bed: Bed, disk: Path) -> None:
    # Two of them: what comes first may be whole, and calls itself installed either way.
    for name in ("small", "fat"):
        wheel(bed.wheels, name, "1.0", size=2 * MIB)
    Origin(bed.root / "needy", main__py="import torch\n", requirements__txt="torch\nsmall\nfat\n")
    url = str(bed.root / "needy")
    bed = attrs.evolve(bed, settings=attrs.evolve(bed.settings, comfyui_repo_url=url))
    ballast = fill(disk, leave=LEFT)
    error = await full(bed)
    check_words(error, disk)
    assert error.needed > 0
    assert "needed" in error.summary
    # Without room it is the same again, and no step is taken for done.
    check_words(await full(bed), disk)
    ballast.unlink()
    again = KeptProgress()
    assert await bed.executor().install(PLAN, "base", again) > 0
    assert "clone skipped" in again.lines
    assert "environment skipped" in again.lines
    for name in ("small", "fat"):
        assert (bed.site / f"{name}_data" / "big").stat().st_size == 2 * MIB


async def test_no_room_for_the_machines_own_notes(bed: Bed, disk: Path) -> None:
    bed.paths.workspace.mkdir()
    ballast = fill(disk, leave=0)
    check_words(await full(bed), disk)
    ballast.unlink()
    assert await bed.executor().install(PLAN, "base", KeptProgress()) == 6


async def test_a_pack_that_does_not_fit_fails_alone(bed: Bed, disk: Path) -> None:
    pack = Origin(bed.root / "pack", a="1")
    (pack.folder / "model.bin").write_bytes(bytes(range(256)) * (3 * MIB // 256))
    pack.commit(c="1")
    node = {"name": "Large", "url": pack.url}
    run = bed.executor(node)
    await run.install(PLAN, "base", KeptProgress())
    ballast = fill(disk, leave=MIB)
    await run.install(PLAN, "nodes", KeptProgress())
    (failure,) = run.failures
    assert failure.subject == "Large"
    assert isinstance(failure.error, DiskFull)
    assert not list((bed.home / "custom_nodes").iterdir())
    ballast.unlink()
    again = bed.executor(node)
    await again.install(PLAN, "nodes", KeptProgress())
    assert again.failures == ()
    assert (bed.home / "custom_nodes" / "Large" / "model.bin").exists()
