"""Results that could not be written while Redis was away, on disk until they are.

A worker that ends meanwhile, however it ends, leaves them to its successor of the same id.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

from machine_lifecycle.jobs.outcomes import Outcome

__all__ = ["Outbox"]

_MOST = 256 * 1024 * 1024
"""Bytes that are kept; a result beyond them stays in memory alone."""


class Outbox:
    """A folder of results, a file each. Of files whose owner is another user nothing is read."""

    def __init__(self, folder: Path | None) -> None:
        """Make it; the folder is made when the first result needs it.

        Args:
            folder: Where; ``None`` keeps nothing.
        """
        self._folder = folder

    def keep(self, outcome: Outcome, *, reason: str = "") -> None:
        """Write a result down, once; or once more, with the reason why Redis never takes it."""
        if self._folder is None:
            return
        path = self._path(self._folder, outcome)
        text = json.dumps(
            {
                "reason": reason,
                "arguments": outcome.arguments,
                "outputs": {
                    key: base64.b64encode(data).decode() for key, data in outcome.outputs.items()
                },
            }
        )
        # A disk that is full or gone costs the second chance, not the first: memory has it still.
        with contextlib.suppress(OSError):
            if path.exists() and not reason:
                return
            if self._size(self._folder) + len(text) > _MOST:
                return
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            part = path.with_suffix(".part")
            handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)

    def forget(self, outcome: Outcome) -> None:
        """It is written in Redis, or refused there for good."""
        if self._folder is not None:
            with contextlib.suppress(OSError):
                self._path(self._folder, outcome).unlink(missing_ok=True)

    def left(self) -> Iterator[Outcome]:
        """Results that a predecessor left."""
        if self._folder is None or not self._folder.is_dir():
            return
        for path in sorted(self._folder.glob("*.json")):
            try:
                if path.stat().st_uid != os.getuid():
                    continue
                facts = json.loads(path.read_text(encoding="utf-8"))
                outcome = Outcome(
                    tuple(facts["arguments"]),
                    outputs={
                        str(key): base64.b64decode(data) for key, data in facts["outputs"].items()
                    },
                )
            except (OSError, ValueError, KeyError, TypeError, AttributeError):
                # Nothing that can be read will come of it; the job's lease sees to the job.
                with contextlib.suppress(OSError):
                    path.unlink()
                continue
            yield outcome

    @staticmethod
    def _path(folder: Path, outcome: Outcome) -> Path:
        # An id comes from outside: it names no path, and may be longer than a name.
        name = hashlib.sha256(outcome.job_id.encode(errors="replace")).hexdigest()
        return folder / f"{name}-{outcome.fence}.json"

    @staticmethod
    def _size(folder: Path) -> int:
        return sum(path.stat().st_size for path in folder.glob("*.json"))
