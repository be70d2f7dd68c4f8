"""The worker's end of the stream to the orchestrator."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

__all__ = ["Link"]

_GATHER = 0.02
"""Seconds in which what is said gathers: of short jobs begin and end go together."""
_FIRST_WAIT = 0.05
_LONGEST_WAIT = 2.0


class Link:
    """Says what the worker does, hears what it is told, and comes back after a break.

    ``run`` is the task that keeps the stream; ``say`` may be called at any time. What is said while
    there is no stream is not kept: after each hello the present state is told instead.
    """

    def __init__(
        self,
        path: Path,
        *,
        hello: dict[str, Any],
        state: Callable[[], Iterable[dict[str, Any]]],
        told: Callable[[dict[str, Any]], None],
    ) -> None:
        """Make a link; nothing is opened until ``run``.

        Args:
            path: The orchestrator's socket.
            hello: First line of every stream.
            state: The lines that tell the present state, after every hello.
            told: Takes every line that is heard.
        """
        self._path = path
        self._hello = hello
        self._state = state
        self._told = told
        self._writer: asyncio.StreamWriter | None = None
        self._said: list[bytes] = []

    def say(self, message: dict[str, Any]) -> None:
        """Say one thing, if there is a stream."""
        if self._writer is not None and not self._writer.is_closing():
            if not self._said:
                asyncio.get_running_loop().call_later(_GATHER, self._write)
            self._said.append(json.dumps(message).encode() + b"\n")

    def _write(self) -> None:
        said, self._said = self._said, []
        if said and self._writer is not None and not self._writer.is_closing():
            self._writer.write(b"".join(said))

    async def flush(self) -> None:
        """Return when what was said has left; a stream that broke meanwhile is no matter."""
        self._write()
        if self._writer is not None:
            try:
                await self._writer.drain()
            except OSError:
                return

    async def run(self) -> None:
        """Keep the stream until cancelled."""
        wait = _FIRST_WAIT
        while True:
            try:
                reader, self._writer = await asyncio.open_unix_connection(str(self._path))
            except OSError:
                await asyncio.sleep(wait)
                wait = min(wait * 2, _LONGEST_WAIT)
                continue
            wait = _FIRST_WAIT
            try:
                self.say(self._hello)
                for message in self._state():
                    self.say(message)
                async for line in reader:
                    self._hear(line)
            except (OSError, ValueError):
                # Broken, or a line beyond the reader's limit: the stream starts anew.
                await asyncio.sleep(wait)
            finally:
                writer, self._writer, self._said = self._writer, None, []
                writer.close()

    def _hear(self, line: bytes) -> None:
        message = json.loads(line)
        if isinstance(message, dict):
            self._told(message)
