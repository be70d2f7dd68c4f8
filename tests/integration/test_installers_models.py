"""Folders with models: ComfyUI's own, and one that the mapping names beside it."""

from __future__ import annotations

import sys
from pathlib import Path

import attrs
import pytest

from machine_lifecycle.errors import Problems
from machine_lifecycle.installers.errors import ModelsFolderUnusable
from machine_lifecycle.installers.models import MODEL_FOLDERS
from tests.support.comfyui_bed import PLAN, Bed, make_bed
from tests.support.progress import KeptProgress

OWN = "folders skipped"


@pytest.fixture
def bed(tmp_path: Path) -> Bed:
    return make_bed(tmp_path)


async def install(bed: Bed, models_path: str) -> list[str]:
    plan = attrs.evolve(PLAN, options={"models_path": models_path})
    sink = KeptProgress()
    await bed.executor().install(plan, "base", sink)
    return sink.lines


def told(bed: Bed) -> str:
    path = bed.home / "extra_model_paths.yaml"
    return path.read_text() if path.exists() else ""


async def test_a_folder_beside_is_made_and_told_to_comfyui(bed: Bed, tmp_path: Path) -> None:
    beside = tmp_path / "big disk: ä" / "models"
    await install(bed, str(beside))
    assert {path.name for path in beside.iterdir()} == set(MODEL_FOLDERS)
    assert (bed.home / "models" / "checkpoints").is_dir()
    text = told(bed)
    assert f'base_path: "{beside}"' in text
    assert "  checkpoints: checkpoints\n" in text
    assert OWN in await install(bed, str(beside))
    # Another one, then none: the file follows.
    await install(bed, str(tmp_path / "other"))
    assert f'base_path: "{tmp_path / "other"}"' in told(bed)
    await install(bed, "")
    assert told(bed) == ""


@pytest.mark.parametrize("text", ["/workspace/ComfyUI/models", "ComfyUI/models"])
async def test_comfyuis_own_folder_by_its_usual_name_is_no_other(bed: Bed, text: str) -> None:
    await install(bed, text)
    assert told(bed) == ""
    assert (bed.home / "models" / "loras").is_dir()


async def test_an_older_mappings_workspace_is_this_machines(bed: Bed) -> None:
    await install(bed, "/workspace/shared-models")
    assert (bed.paths.workspace / "shared-models" / "loras").is_dir()


async def test_a_file_of_the_users_stays(bed: Bed, tmp_path: Path) -> None:
    await install(bed, "")
    mine = bed.home / "extra_model_paths.yaml"
    mine.write_text("mine:\n  base_path: /mine\n")
    lines = await install(bed, str(tmp_path / "other"))
    assert any("WARNING" in line and str(tmp_path / "other") in line for line in lines)
    assert told(bed) == "mine:\n  base_path: /mine\n"
    await install(bed, "")
    assert told(bed) == "mine:\n  base_path: /mine\n"


async def test_a_folder_that_can_not_be_made(bed: Bed, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Problems) as caught:
        await install(bed, str(tmp_path / "file" / "models"))
    (error,) = caught.value.errors
    assert isinstance(error, ModelsFolderUnusable)
    assert error.folder == tmp_path / "file" / "models"
    assert "COMFYUI_MODELS_PATH" in str(error)


@pytest.mark.skipif(sys.platform != "linux", reason="a folder where nothing can be made: /proc")
async def test_a_folder_that_can_only_be_read_is_used_as_it_is(bed: Bed) -> None:
    lines = await install(bed, "/proc/sys")
    assert any("used as it is" in line for line in lines)
    assert 'base_path: "/proc/sys"' in told(bed)
