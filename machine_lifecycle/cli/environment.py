"""Settings and folders as the environment has them. The one reader of the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import click

from machine_lifecycle.config.errors import EnvFileUnreadable
from machine_lifecycle.config.settings import LoadedSettings, load_settings
from machine_lifecycle.model.paths import Paths
from machine_lifecycle.system.errors import FileNotRead
from machine_lifecycle.system.files import read_named
from machine_lifecycle.system.folders import find_paths

__all__ = ["environment", "open_paths", "open_settings"]


def environment() -> Mapping[str, str]:
    """The process's environment, as it is now."""
    return os.environ


def open_settings(ctx: click.Context) -> LoadedSettings:
    """The effective settings: environment over ``.env`` over defaults.

    Raises:
        EnvFileUnreadable: The file is there, or was named, and can't be read.
        LifecycleError: Something in them can't be used; everything that is wrong, at once.
    """
    named = (ctx.find_root().obj or {}).get("env_file")
    path = Path(named or ".env")
    text = _read(path) if named or path.is_file() else None
    return load_settings(environment(), dotenv_text=text, dotenv_name=str(path))


def _read(path: Path) -> str:
    try:
        return read_named(path)
    except FileNotRead as error:
        raise EnvFileUnreadable(path=path, reason=error.reason) from error


def open_paths(ctx: click.Context) -> Paths:
    """The folders of the machine that the settings describe."""
    return find_paths(open_settings(ctx).settings, environment())
