"""A machine as seen from outside that installs a ComfyUI, which is the simulation in disguise."""

from __future__ import annotations

import sys
from collections.abc import Callable

from tests.support.comfyui_bed import Bed
from tests.support.outside import Outside
from tests.support.ports import free_port

__all__ = ["MAIN", "machine_of"]

MAIN = f"""
import os, sys
if sys.argv[1:] == ["--help"]:
    import torch
    print("usage: main.py")
    sys.exit()
port = sys.argv[sys.argv.index("--port") + 1]
env = os.environ | {{"SIMULATION_PORT": port}}
python = {sys.executable!r}
os.execve(python, [python, "-m", "machine_lifecycle.simulation", "--port", port], env)
"""
"""It speaks ComfyUI's protocol as the simulation does, once torch is there."""


def machine_of(bed: Bed, make: Callable[..., Outside], **more: str) -> Outside:
    """A machine that installs the bed's ComfyUI into a workspace of its own."""
    environ = {name: value for name, value in bed.environ.items() if name != "PATH"}
    return make(
        **environ,
        WORKERS="comfyui:1",
        REDIS="embedded",
        GPU_MODE="mock",
        MOCK_GPU_NUM="1",
        COMFYUI_REPO_URL=bed.settings.comfyui_repo_url,
        COMFYUI_BASE_PORT=str(free_port(count=8)),
        CONFIG_NODES_PATH=str(bed.root / "config_nodes.json"),
        TORCH_BACKEND="none",
        **more,
    )
