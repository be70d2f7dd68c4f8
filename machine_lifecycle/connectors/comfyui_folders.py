"""The folders of a ComfyUI whose disk is in reach: its files need not be asked for."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from machine_lifecycle.connectors.comfyui_protocol import FileReference

__all__ = ["Folders"]

_SMALL = 256 * 1024
"""Bytes up to which a file is read without a thread: that takes no longer than asking for one."""


class Folders:
    """Where files are, as seen from here."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        """Those that an endpoint's ``output_directory`` and ``temp_directory`` name, if they do."""
        self._roots = {
            kind: options[f"{kind}_directory"]
            for kind in ("output", "temp")
            if options.get(f"{kind}_directory")
        }

    async def read(self, file: FileReference) -> bytes | None:
        """A file's bytes; ``None`` for one that is not there, or elsewhere in truth."""
        root = self._roots.get(file.type)
        if root is None:
            return None
        try:
            path = _found(root, file)
            if path is None:
                return None
            if path.stat().st_size <= _SMALL:
                return path.read_bytes()
            return await asyncio.to_thread(path.read_bytes)
        except (OSError, ValueError):  # a name may hold what no file's can
            return None


def _found(root: str, file: FileReference) -> Path | None:
    """Where a file is; ``None`` if that is not below the root, in truth."""
    top = os.path.realpath(root)  # ``Path.resolve`` takes as long as all the rest
    path = os.path.realpath(f"{top}/{file.subfolder}/{file.filename}")
    return Path(path) if path.startswith(f"{top}/") else None
