"""The folders of a ComfyUI whose disk is in reach: its files need not be asked for."""

from __future__ import annotations

import asyncio
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
            kind: Path(options[f"{kind}_directory"])
            for kind in ("output", "temp")
            if options.get(f"{kind}_directory")
        }

    async def read(self, file: FileReference) -> bytes | None:
        """A file's bytes; ``None`` for one that is not there, or elsewhere in truth."""
        root = self._roots.get(file.type)
        if root is None:
            return None
        try:
            path = (root / file.subfolder / file.filename).resolve()
            if not path.is_relative_to(root.resolve()):
                return None
            if path.stat().st_size <= _SMALL:
                return path.read_bytes()
            return await asyncio.to_thread(path.read_bytes)
        except (OSError, ValueError):  # a name may hold what no file's can
            return None
