"""Where a check has its files."""

from __future__ import annotations

from pathlib import Path

from machine_lifecycle.model.paths import Paths

__all__ = ["paths_in"]


def paths_in(folder: Path) -> Paths:
    """The folders of a machine, all in one."""
    return Paths(workspace=folder / "workspace", runtime=folder / "runtime")
