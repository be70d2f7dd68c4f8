"""The stand-in imports node packs as ComfyUI does: what it logs is what the real one logs."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.patience import PATIENCE
from tests.support.ports import free_port

CAPTURED = Path(__file__).parents[1] / "data" / "loading"
_NODE = 'class N:\n    INPUT_TYPES = classmethod(lambda cls: {"required": {}})\n'
PACKS = {
    "good/__init__.py": f'{_NODE}NODE_CLASS_MAPPINGS = {{"RealHalve": N}}\n',
    "dotted.pack-1/__init__.py": f'{_NODE}NODE_CLASS_MAPPINGS = {{"RealDotted": N}}\n',
    "websocket_image_save.py": f'{_NODE}NODE_CLASS_MAPPINGS = {{"SaveImageWebsocket": N}}\n',
    "missing_module/__init__.py": "from .inner import NODE_CLASS_MAPPINGS\n",
    "missing_module/inner.py": "import not_there.deep\n",
    "raises/__init__.py": 'raise RuntimeError("no card of this kind\\nsecond line of it")\n',
    "js_only/__init__.py": 'WEB_DIRECTORY = "./js"\nNODE_CLASS_MAPPINGS = {}\n',
    "js_only/js/a.js": "//\n",
    "js_plain/__init__.py": 'WEB_DIRECTORY = "./js"\n',
    "js_plain/js/b.js": "//\n",
    "no_nodes/__init__.py": "x = 1\n",
    "no_init/README.md": "notes\n",
    "syntax/__init__.py": "def f(:\n",
    "old.disabled/__init__.py": "x\n",
    "v3_only/__init__.py": "async def comfy_entrypoint():\n"
    '    raise ValueError("entry is broken")\n',
    "multi/__init__.py": "from .sub import nothing_of_this\n",
    "multi/sub.py": "",
    "silent.py": "raise ValueError\n",
    "example_node.py.example": "",
}
"""The folder with which the real ones were captured; ``good`` slept for 0.3 s there."""


@contextmanager
def simulation(folder: Path, flavour: str) -> Iterator[tuple[str, Path]]:
    port, log = free_port(), folder / f"{flavour}.log"
    with log.open("wb") as output:
        child = subprocess.Popen(
            [
                *(sys.executable, "-m", "machine_lifecycle.simulation", "--port", str(port)),
                *("--flavour", flavour, "--custom-nodes", str(folder / "custom_nodes")),
                *("--output-directory", str(folder / "out"), "--temp-directory", str(folder)),
            ],
            stdout=output,
            stderr=output,
        )
    try:
        while "To see the pages" not in log.read_text():
            assert child.poll() is None, log.read_text()
        yield f"http://127.0.0.1:{port}", log
    finally:
        child.kill()
        child.wait()


def page(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=PATIENCE) as answer:  # noqa: S310 - our own
        return json.load(answer)


_OF_PACKS = re.compile(
    r"N seconds|Import times|Cannot import|Skip |Traceback|comfy_entrypoint|^\w+Error|^second line"
)


def said(text: str, root: str) -> list[str]:
    """What is said of packs, sorted, without figures, colours, folders and frames of tracebacks."""
    told = text.rpartition("web root:")[2].partition("Starting server")[0].replace(root, "ROOT")
    lines = re.sub(r"\d\.\d seconds", "N seconds", re.sub(r"\x1b\[[0-9;]*m", "", told)).splitlines()
    return sorted(line for line in lines if _OF_PACKS.search(line))


@pytest.mark.parametrize("flavour", ["fork", "upstream", "newest"])
def test_the_log_is_that_of_the_real_one(tmp_path: Path, flavour: str) -> None:
    for name, text in PACKS.items():
        path = tmp_path / "custom_nodes" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    real = json.loads((CAPTURED / f"{flavour}.json").read_text())
    with simulation(tmp_path, flavour) as (url, log):
        ours = said(log.read_text(), str(tmp_path / "custom_nodes"))
        info, extensions = page(f"{url}/object_info"), page(f"{url}/extensions")
    theirs = said((CAPTURED / f"{flavour}.log").read_text(), "/srv/comfyui/custom_nodes")
    assert ours == theirs
    of_packs = {
        name: entry["python_module"]
        for name, entry in real["object_info"].items()
        if entry["python_module"].startswith("custom_nodes.")
    }
    assert {name: info[name]["python_module"] for name in of_packs} == of_packs
    assert set(extensions) == {a for a in real["extensions"] if "/core/" not in a}
