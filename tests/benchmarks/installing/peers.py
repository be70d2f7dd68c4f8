"""The ways of ComfyUI's own tools, beside ours: ComfyUI-Manager's ``cm-cli``, and comfy-cli.

``comfy node install ADDRESS…`` hands its words to the ``cm_cli`` of ComfyUI-Manager in ComfyUI's
environment. That clones one pack after the other with all of its history, then calls uv once for
each line of each pack's requirements. Both tools come from the index that pip is told of, which is
not measured; nor is ComfyUI, of which they import three modules that have stand-ins here.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import attrs

__all__ = ["Peer", "made"]

_COMFYUI = {
    "main.py": "",
    "requirements.txt": "",
    "comfy/__init__.py": "",
    "comfy/cli_args.py": """
class _Args:
    def __getattr__(self, name):
        return None

args = _Args()
""",
    "folder_paths.py": """
import os

_here = os.path.dirname(os.path.abspath(__file__))
folder_names_and_paths = {"custom_nodes": ([os.path.join(_here, "custom_nodes")], set())}

def get_folder_paths(name):
    return folder_names_and_paths[name][0]

def get_system_user_directory(name):
    return os.path.join(_here, "user", name)
""",
    "utils/__init__.py": "",
    "utils/extra_config.py": "def load_extra_path_config(path):\n    pass\n",
}
"""What both ask of a ComfyUI before they install anything into it."""
_KNOWN = "https://github.com/comfyanonymous/ComfyUI"
"""As comfy-cli knows a ComfyUI: by its repository's address. Nobody asks there."""
_MANAGER = ("comfyui-manager", "aiohttp", "pyyaml")
"""It imports what ComfyUI itself requires."""


@attrs.frozen
class Peer:
    """A tool that installs packs into a ComfyUI.

    Attributes:
        name: Of the tool, with its version.
        argv: The command, without addresses.
        home: The ComfyUI.
    """

    name: str
    argv: tuple[str, ...]
    home: Path

    def missing(self, packs: Iterable[str]) -> int:
        """How many of these packs are not there: its exit status is 0 either way."""
        return sum(not (self.home / "custom_nodes" / pack / ".git").exists() for pack in packs)


def made(folder: Path) -> tuple[Peer, ...]:
    """Both, each with a ComfyUI of its own."""
    tool = _environment(folder / "comfy-cli", ("comfy-cli",))
    manager, comfy = folder / "manager", folder / "comfy"
    for home in (manager, comfy):
        _environment(home / "venv", _MANAGER)
        for name, text in _COMFYUI.items():
            path = home / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
        (home / "custom_nodes").mkdir()
        for words in (("init", "--quiet"), ("remote", "add", "origin", _KNOWN)):
            subprocess.run(["git", *words], cwd=home, check=True)  # noqa: S607
    version = _version(comfy / "venv" / "bin" / "python", "comfyui-manager")
    quiet = ("--skip-prompt", "--no-enable-telemetry", "--workspace", str(comfy))
    return (
        Peer(
            f"cm-cli of ComfyUI-Manager {version}",
            (str(manager / "venv/bin/python"), "-m", "cm_cli", "install", "--mode", "local"),
            manager,
        ),
        Peer(
            f"comfy node install of comfy-cli {_version(tool, 'comfy-cli')}",
            (str(tool.with_name("comfy")), *quiet, "node", "install", "--mode", "local"),
            comfy,
        ),
    )


def _environment(folder: Path, packages: Sequence[str]) -> Path:
    """A new environment with packages; its Python."""
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    python = folder / "bin" / "python"
    quiet = ("--quiet", "--disable-pip-version-check")
    subprocess.run([str(python), "-m", "pip", "install", *quiet, *packages], check=True)
    return python


def _version(python: Path, package: str) -> str:
    asks = f"from importlib.metadata import version; print(version({package!r}))"
    said = subprocess.run([str(python), "-c", asks], check=True, capture_output=True, text=True)
    return said.stdout.strip()
