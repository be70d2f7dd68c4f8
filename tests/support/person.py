"""Somebody with a list of packs and a shell, who calls ``machine-lifecycle``."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs

from tests.support.lock_bed import Place

__all__ = ["Person"]


@attrs.frozen
class Person:
    """Somebody with a list of packs and a shell."""

    place: Place

    @property
    def path(self) -> Path:
        return self.place.root / "config_nodes.lock.json"

    def lists(self, *names: str, **more: Any) -> None:
        nodes = [
            {
                "name": name,
                "url": self.place.pack(name).repository.url,
                "requirements": True,
                **more,
            }
            for name in names
        ]
        (self.place.root / "config_nodes.json").write_text(json.dumps({"custom_nodes": nodes}))

    def lists_model(self, target: str, data: bytes) -> Path:
        """A list with one model, which is served."""
        name = target.replace("/", "-")
        (self.place.root / "wheels" / name).write_bytes(data)
        url = f"http://127.0.0.1:{self.place.port}/files/{name}"
        digest = hashlib.sha256(data).hexdigest()
        path = self.place.root / "models.json"
        path.write_text(json.dumps([{"url": url, "target": target, "sha256": digest}]))
        return path

    def environ(self, **more: str) -> dict[str, str]:
        """What a command gets."""
        root = self.place.root
        return {
            **self.place.environ,
            "CONFIG_NODES_PATH": str(root / "config_nodes.json"),
            "WORKSPACE_PATH": str(root / "ws"),
            "COMFYUI_REPO_URL": self.place.pack("ComfyUI").repository.url,
            "TORCH_BACKEND": "none",
            **more,
        }

    def starts(
        self, *words: str, command: str = "lock", under: Sequence[str] = (), **more: str
    ) -> subprocess.Popen[str]:
        """Call a command, under another program if one is named, and go on."""
        return subprocess.Popen(
            [*under, sys.executable, "-m", "machine_lifecycle", command, *words],
            env=self.environ(**more),
            cwd=self.place.root,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def calls(
        self, *words: str, command: str = "lock", under: Sequence[str] = (), **more: str
    ) -> subprocess.CompletedProcess[str]:
        """Call a command, and wait for its end."""
        with self.starts(*words, command=command, under=under, **more) as process:
            out, err = process.communicate(timeout=200)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)
