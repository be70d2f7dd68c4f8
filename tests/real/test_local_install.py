"""What a machine installs for a real ComfyUI: an environment of its own, and another ComfyUI later.

The variables are those of ``test_local_comfyui``. The first test makes an environment from an empty
workspace, so it runs only where ``UV_FIND_LINKS`` names a folder with a wheel of torch; constraints
(``PIP_CONSTRAINT``) keep others from being looked for. The second needs two ComfyUIs.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.real.conftest import (
    INVERTED,
    Driven,
    Version,
    asked,
    machine_settings,
    node_list,
    repository,
    variable,
    versions,
)
from tests.support.outside import Outside

pytestmark = [pytest.mark.real, pytest.mark.timeout(1500)]


def torch_in(workspace: str) -> set[str]:
    sites = Path(workspace).glob("ComfyUI/venv/lib/python*/site-packages")
    return {path.name for site in sites for path in site.glob("torch-*.dist-info")}


def stop(driven: Driven) -> None:
    driven.machine.signal(signal.SIGTERM)
    assert driven.machine.wait() == 0
    driven.machine.reap()


def test_an_environment_of_its_own_whose_torch_nobody_moves(
    outside: Callable[..., Outside],
    comfyui: Version,
    graphs: Any,
    first_picture: Any,
    tmp_path: Path,
) -> None:
    (wheel,) = Path(variable("UV_FIND_LINKS")).glob("torch-*.whl")
    torch = wheel.name.split("-")[1]
    packs = (
        {
            "name": "Other",
            "requirements": True,
            "files": {"requirements__dot__txt": "torch==2.0\n"},
        },
        {"name": "Upgrade", "custom_script": "pip install torch --upgrade"},
        {"name": "Older", "custom_script": "python -m pip install torch==2.0"},
        {"name": "Remover", "custom_script": "pip uninstall --yes torch"},
        {"name": "Good", "requirements": True, "files": {"requirements__dot__txt": "numpy\n"}},
    )
    listed = []
    for pack in packs:
        files = {"__init____dot__py": "NODE_CLASS_MAPPINGS = {}\n", **pack.get("files", {})}  # type: ignore[dict-item]  # texts
        url = repository(tmp_path / str(pack["name"]), **files)
        listed.append({**{k: v for k, v in pack.items() if k != "files"}, "url": url})
    models = tmp_path / "models"
    machine = outside(
        **machine_settings(
            comfyui,
            COMFYUI_PYTHON="",
            TORCH_BACKEND="none",
            COMFYUI_MODELS_PATH=str(models),
            CONFIG_NODES_PATH=node_list(tmp_path, *listed),
            MACHINE_PACK_FLOOR="0.4",  # three of five are to fail
        )
    )
    machine.patience = 1200
    driven = Driven(machine)
    driven.boot()
    assert torch_in(machine.env["WORKSPACE_PATH"]) == {f"torch-{torch}.dist-info"}
    words = str(driven.status()["conditions"])
    for failed in ("Other", "Older", "Remover"):
        assert failed in words
    assert "Upgrade" not in words
    assert "Good" not in words
    answer = driven.submit(graphs.picture(), "--watch")
    assert first_picture(answer) == ((64, 48), INVERTED)
    # ComfyUI looks into the further folder.
    (models / "checkpoints" / "found.safetensors").touch()
    port = driven.processes()["comfyui-gpu0"]["port"]
    with asked(f"http://127.0.0.1:{port}/models/checkpoints") as names:
        assert names == ["found.safetensors"]
    stop(driven)


def whole(version: Version, folder: Path) -> str:
    """A repository with the files of a ComfyUI, without its history."""
    subprocess.run(["git", "clone", "--quiet", version.url, str(folder)], check=True)  # noqa: S607
    shutil.rmtree(folder / ".git")
    return repository(folder)


def test_another_comfyui_is_taken_up_in_the_same_folder(
    outside: Callable[..., Outside], graphs: Any, first_picture: Any, tmp_path: Path
) -> None:
    two = [version for version in versions() if version is not None][:2]
    if len(two) < 2:
        pytest.skip("COMFYUI_REPO_URL does not name two ComfyUIs")
    urls = [whole(version, tmp_path / str(number)) for number, version in enumerate(two)]
    machine = outside(**machine_settings(two[0], COMFYUI_REPO_URL=urls[0]))
    machine.patience = 300
    driven = Driven(machine)
    said = []
    kept = Path(machine.env["WORKSPACE_PATH"]) / "ComfyUI" / "models" / "loras" / "mine.safetensors"
    for url, version in zip((*urls, urls[0]), (*two, two[0]), strict=True):
        machine.env |= {"COMFYUI_REPO_URL": url, "COMFYUI_PYTHON": version.python}
        driven.boot()
        kept.touch()
        port = driven.processes()["comfyui-gpu0"]["port"]
        with asked(f"http://127.0.0.1:{port}/system_stats") as stats:
            said.append(stats["system"]["comfyui_version"])
        answer = driven.submit(graphs.picture(), "--watch")
        assert first_picture(answer) == ((64, 48), INVERTED)
        stop(driven)
    assert said[0] == said[2] != said[1]
    assert os.path.lexists(kept)
