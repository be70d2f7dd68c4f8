"""The list of models as a person looks at it: what is there, which digests are known."""

from __future__ import annotations

import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs

from machine_lifecycle.assembly.planner import MachinePlanner
from machine_lifecycle.config.models import pinned_models
from machine_lifecycle.errors import LifecycleError
from machine_lifecycle.installers.download_errors import NoModelList
from machine_lifecycle.installers.model_files import ModelFiles, ModelState
from machine_lifecycle.model.installing import InstallContext
from machine_lifecycle.model.paths import Paths
from machine_lifecycle.model.settings import Settings
from machine_lifecycle.system.files import asked_for, write_atomically

__all__ = ["ListedModels", "Pinned", "state_value"]

_SERVICE = "comfyui"


@attrs.frozen(kw_only=True)
class Pinned:
    """What became of pinning a list.

    Attributes:
        path: The list.
        found: SHA-256 and size (0: not known) by target, of those that are new in it.
        unknown: Targets of which nobody tells the digest, and why.
    """

    path: Path
    found: Mapping[str, tuple[str, int]]
    unknown: Mapping[str, str]

    def value(self) -> dict[str, Any]:
        """As JSON values."""
        found = {name: {"sha256": sha, "size": size} for name, (sha, size) in self.found.items()}
        return {"path": str(self.path), "pinned": found, "unknown": dict(self.unknown)}


def state_value(state: ModelState) -> dict[str, Any]:
    """How one model does, as JSON values."""
    entry = state.entry
    return {
        "target": entry.target,
        "url": entry.plain_url,
        "path": str(state.path),
        "state": state.word,
        "have": state.have,
        "size": entry.size,
        "sha256": entry.sha256,
        "required": entry.required,
    }


class ListedModels:
    """The models of this machine's settings.

    Args:
        settings: The machine's.
        paths: The machine's.
        environ: The machine's environment.

    Raises:
        Problems: The list can't be used.
        FileNotRead: It can't be read.
    """

    def __init__(self, settings: Settings, paths: Paths, environ: Mapping[str, str]) -> None:
        planner = MachinePlanner(settings=settings, paths=paths, machine_id="", environ=environ)
        entry = planner.mapping().services.get(_SERVICE)
        options = entry.options if entry else {}
        context = InstallContext(
            service=_SERVICE, options=options, settings=settings, environ=environ, paths=paths
        )
        self._files = ModelFiles.of(context)
        named = options.get("models", "")
        self._path = settings.models_manifest or (
            Path(named).expanduser() if named and named[0] not in "[{" else None
        )

    def states(self) -> tuple[ModelState, ...]:
        """How each does, in the order of the list."""
        return tuple(self._files.states())

    async def pin(self, report: Callable[[str], None], *, write: bool = True) -> Pinned:
        """Write the digests and sizes that lack into the list.

        Args:
            report: Takes a line, for people.
            write: Whether the list is written.

        Raises:
            NoModelList: There is no file with a list.
        """
        if self._path is None:
            raise NoModelList
        found: dict[str, tuple[str, int]] = {}
        unknown: dict[str, str] = {}
        for state in self.states():
            entry = state.entry
            if entry.sha256:
                continue
            try:
                sha256, size = await self._files.pinned(entry, state, report)
            except LifecycleError as error:
                unknown[entry.target] = error.summary
                continue
            if sha256:
                found[entry.target] = (sha256, size)
            else:
                unknown[entry.target] = "its server does not tell: install it first, then pin it"
        if found and write:
            text = pinned_models(self._path.read_text("utf-8"), self._files.entries, found)
            with asked_for(self._path):
                write_atomically(self._path, text, mode=stat.S_IMODE(self._path.stat().st_mode))
        return Pinned(path=self._path, found=found, unknown=unknown)
