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
        self._tops: dict[str, str] = {}
        """Where they are in truth, as it was found last."""

    async def read(self, file: FileReference) -> bytes | None:
        """A file's bytes; ``None`` for one that is not there, or elsewhere in truth."""
        root = self._roots.get(file.type)
        if root is None:
            return None
        try:
            path = self._found(root, file)
            if path is None:
                return None
            with open(path, "rb", buffering=0) as opened:  # noqa: ASYNC230, PTH123 - see ``_SMALL``
                if os.fstat(opened.fileno()).st_size <= _SMALL:
                    return opened.read()
            return await asyncio.to_thread(Path(path).read_bytes)
        except (OSError, ValueError):  # a name may hold what no file's can
            return None

    def _found(self, root: str, file: FileReference) -> str | None:
        """Where a file is; ``None`` if that is not below the root, in truth."""
        # ``Path.resolve`` takes as long as all the rest.
        path = os.path.realpath(f"{root}/{file.subfolder}/{file.filename}")
        if path.startswith(self._tops.get(root, "\0")):
            return path
        # The first one; or the root is another by now, or this is none of its files.
        self._tops[root] = f"{os.path.realpath(root)}/"
        return path if path.startswith(self._tops[root]) else None
