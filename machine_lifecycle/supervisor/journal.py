"""What was spawned, on disk, so that a later orchestrator knows it again.

Written before a process is first spawned (its token is then known, and finds the process even if
we are killed in the next instant) and after each spawn. One small JSON file, replaced as a whole,
readable by its owner only. It isn't synced to the disk: it has to survive us, not the host.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from machine_lifecycle.supervisor.identity import Identity

__all__ = ["Entry", "Journal"]

_VERSION = 1
_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
_log = logging.getLogger(__name__)


@attrs.frozen(kw_only=True, cache_hash=True)
class Entry:
    """One process as recorded.

    Attributes:
        token: What it carries in its environment, as does all that it starts.
        pid: ``None`` while it is only meant to be spawned.
        created: See ``Identity``.
        boot: Likewise.
        digest: Of the spec it was spawned from.
        log: Its log file.
        log_offset: Size of that when it was spawned.
        restarts: Starts after the first.
        started: Wall-clock seconds.
        notified: Whether it has said ``READY=1``, which it says only once.
    """

    name: str
    token: str
    pid: int | None = None
    created: int = 0
    boot: str = ""
    digest: str = ""
    log: str = ""
    log_offset: int = 0
    restarts: int = 0
    started: float = 0.0
    notified: bool = False

    @property
    def identity(self) -> Identity | None:
        """Who was spawned."""
        return None if self.pid is None else Identity(self.pid, self.created, self.boot)


class Journal:
    """The file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._rows: dict[Entry, str] = {}

    def write(self, entries: Mapping[str, Entry]) -> None:
        """Replace the file's content."""
        self._rows = {entry: self._rows.get(entry) or _row(entry) for entry in entries.values()}
        rows = ", ".join(self._rows.values())
        text = f'{{"version": {_VERSION}, "processes": [{rows}]}}'
        fresh = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        try:
            handle = os.open(fresh, _FLAGS, 0o600)
        except FileNotFoundError:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(fresh, _FLAGS, 0o600)
        with open(handle, "wb") as file:  # noqa: PTH123 - a handle
            file.write(text.encode())
        fresh.replace(self.path)

    def read(self) -> dict[str, Entry]:
        """Everything recorded; empty if there is no file.

        A file that can't be read is kept under another name and reported in the log: what it
        spoke of is then neither adopted nor ended.
        """
        try:
            data = json.loads(self.path.read_text("utf-8"))
            return _parsed(data)
        except FileNotFoundError:
            return {}
        except (ValueError, TypeError, KeyError) as error:
            aside = self.path.with_name(f"{self.path.name}.corrupt-{int(time.time())}")
            self.path.replace(aside)
            _log.error("the process journal can't be read (%s); kept as %s", error, aside)
            return {}


def _row(entry: Entry) -> str:
    return json.dumps(attrs.asdict(entry))


def _parsed(data: Any) -> dict[str, Entry]:
    if data["version"] != _VERSION:
        raise ValueError(f"version {data['version']!r} is not {_VERSION}")
    entries = [Entry(**row) for row in data["processes"]]
    for entry in entries:
        numbers = (entry.created, entry.pid if entry.pid is not None else 2)
        if not all(type(number) is int for number in numbers) or numbers[1] <= 1:
            raise ValueError(f"{entry.name!r} has no usable number")
    return {entry.name: entry for entry in entries}
