"""Files of a service whose disk is in reach: those of its folders, and no others."""

from __future__ import annotations

from pathlib import Path

import pytest

from machine_lifecycle.connectors.comfyui import ComfyUIConnector
from machine_lifecycle.connectors.comfyui_folders import Folders
from machine_lifecycle.connectors.comfyui_protocol import FileReference


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    (tmp_path / "output" / "bed").mkdir(parents=True)
    (tmp_path / "temp").mkdir()
    (tmp_path / "output" / "bed" / "a.png").write_bytes(b"small")
    (tmp_path / "output" / "b.mp4").write_bytes(b"x" * 300_000)
    (tmp_path / "temp" / "c.png").write_bytes(b"preview")
    (tmp_path / "secret").write_bytes(b"of somebody else")
    (tmp_path / "output" / "linked").symlink_to(tmp_path / "secret")
    said = {
        "COMFYUI_OUTPUT_DIRECTORY": str(tmp_path / "output"),
        "COMFYUI_TEMP_DIRECTORY": str(tmp_path / "temp"),
    }
    return Folders(ComfyUIConnector.from_env(said).endpoint.options)


@pytest.mark.parametrize(
    ("file", "data"),
    [
        (FileReference(filename="a.png", subfolder="bed"), b"small"),
        (FileReference(filename="b.mp4"), b"x" * 300_000),
        (FileReference(filename="c.png", type="temp"), b"preview"),
    ],
)
async def test_a_file_is_read(folders: Folders, file: FileReference, data: bytes) -> None:
    assert await folders.read(file) == data


@pytest.mark.parametrize(
    "file",
    [
        pytest.param(FileReference(filename="gone.png"), id="not there"),
        pytest.param(FileReference(filename="bed"), id="a folder"),
        pytest.param(FileReference(filename="c.png", type="input"), id="of another kind"),
        pytest.param(FileReference(filename="../secret"), id="outside by its name"),
        pytest.param(FileReference(filename="secret", subfolder=".."), id="by its folder"),
        pytest.param(FileReference(filename="/etc/passwd"), id="by an absolute name"),
        pytest.param(FileReference(filename="linked"), id="by a link"),
        pytest.param(FileReference(filename="a\0.png"), id="with a name that no file has"),
    ],
)
async def test_others_are_left_to_the_service(folders: Folders, file: FileReference) -> None:
    assert await folders.read(file) is None


async def test_without_folders_nothing_is_read() -> None:
    endpoint = ComfyUIConnector.from_env({}).endpoint
    assert await Folders(endpoint.options).read(FileReference(filename="a.png")) is None


async def test_a_folder_that_was_moved_is_found_again(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.png").write_bytes(name.encode())
    output, file = tmp_path / "output", FileReference(filename="a.png")
    folders = Folders({"output_directory": str(output)})
    assert await folders.read(file) is None
    output.symlink_to(tmp_path / "one")
    assert await folders.read(file) == b"one"
    output.unlink()
    output.symlink_to(tmp_path / "two")
    assert await folders.read(file) == b"two"
