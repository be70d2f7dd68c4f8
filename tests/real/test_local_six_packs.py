"""A boot from nothing with node packs that many people use, and a graph over all of them.

As ``test_local_comfyui.py``; the packs are cloned from where their authors publish them, or from
where ``GIT_CONFIG_*`` leads instead. Their requirements go into the environment that
``COMFYUI_PYTHON`` names: give it one that may be changed.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.real.conftest import INVERTED, Driven, asked, node_list

pytestmark = [pytest.mark.real, pytest.mark.timeout(1800)]

# Pinned: a pack's newest commit asks for the newest ComfyUI sooner or later.
PACKS = {
    "rgthree-comfy": ("rgthree/rgthree-comfy", "13b4399c00b5ef5a97b1b6800fc1185874740f5d"),
    "ComfyUI_essentials": ("cubiq/ComfyUI_essentials", "33ff89fd354d8ec3ab6affb605a79a931b445d99"),
    "ComfyUI-Custom-Scripts": (
        "pythongosssss/ComfyUI-Custom-Scripts",
        "609f3afaa74b2f88ef9ce8d939626065e3247469",
    ),
    "Derfuu_ComfyUI_ModdedNodes": (
        "Derfuu/Derfuu_ComfyUI_ModdedNodes",
        "d0905bed31249f2bd0814c67585cf4fe3c77c015",
    ),
    "ComfyMath": ("evanspearman/ComfyMath", "c01177221c31b8e5fbc062778fc8254aeb541638"),
    "ComfyLiterals": ("M1kep/ComfyLiterals", "bdddb08ca82d90d75d97b1d437a652e0284a32ac"),
    "ComfyUI-LogicUtils": (
        "aria1th/ComfyUI-LogicUtils",
        "f77c699543b8f9977b24581af66ad026d340b663",
    ),
    "execution-inversion-demo-comfyui": (
        "BadCafeCode/execution-inversion-demo-comfyui",
        "d9eebfaa1a6a33067e8c9108ef093b48279c4cbb",
    ),
}


def _reachable(url: str) -> bool:
    asked_for = ["git", "ls-remote", url, "HEAD"]
    env = {**os.environ, "GIT_TERMINAL_PROMPT": "0"}  # noqa: TID251 - where git is sent elsewhere
    found = subprocess.run(asked_for, env=env, capture_output=True, timeout=60, check=False)
    return found.returncode == 0


@pytest.fixture
def packs() -> list[dict[str, Any]]:
    """The entries of a list of node packs."""
    entries = []
    for name, (repository, commit) in PACKS.items():
        url = f"https://github.com/{repository}"
        if not _reachable(url):
            pytest.skip(f"{url} can't be reached")
        entries.append({"name": name, "url": url, "commit": commit, "requirements": True})
    return entries


def over_all_packs() -> dict[str, Any]:
    """One node of each at least: numbers for size and colour, then the picture through three."""

    def node(kind: str, **inputs: Any) -> dict[str, Any]:
        return {"class_type": kind, "inputs": inputs}

    return {
        "literal": node("Int", Number="32"),  # ComfyLiterals
        "sum": node("CM_IntBinaryOperation", op="Add", a=["literal", 0], b=32),  # ComfyMath: 64
        "width": node("MinNode", input1=["sum", 0], input2=["sum", 0]),  # LogicUtils
        "product": node("DF_Multiply", Value_A=0.75, Value_B=64.0),  # Derfuu: 48.0
        "height": node("MathExpression|pysssss", expression="a + 0", a=["product", 0]),
        "colour": node("IntMathOperation", a=0x336600, b=0x99, operation="add"),
        "empty": node(
            "EmptyImage",
            width=["width", 0],
            height=["height", 0],
            batch_size=1,
            color=["colour", 0],
        ),
        "flip": node("ImageFlip+", image=["empty", 0], axis="xy"),  # essentials
        "switch": node("Any Switch (rgthree)", any_01=["flip", 0]),
        "invert": node("ImageInvert", image=["switch", 0]),
        "save": node("SaveImage", images=["invert", 0], filename_prefix="packs"),
    }


def test_a_boot_with_eight_packs_and_a_graph_over_them(
    local: Callable[..., Driven],
    packs: list[dict[str, Any]],
    first_picture: Any,
    tmp_path: Path,
) -> None:
    driven = local(CONFIG_NODES_PATH=node_list(tmp_path, *packs))
    driven.machine.patience = 1200  # one of them brings a compiler and three libraries of pictures
    driven.boot()
    status = driven.status()
    assert (status["state"], status["conditions"]) == ("ready", [])

    port = driven.processes()["comfyui-gpu0"]["port"]
    with asked(f"http://127.0.0.1:{port}/object_info", 60) as known:
        loaded = {kind["python_module"] for kind in known.values()}
    assert {f"custom_nodes.{name}" for name in PACKS} <= loaded

    answer = driven.submit(over_all_packs(), "--watch")
    assert answer["status"] == "completed", answer
    assert first_picture(answer) == ((64, 48), INVERTED)
