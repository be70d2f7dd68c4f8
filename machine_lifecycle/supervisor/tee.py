"""Repeat what the processes write."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from machine_lifecycle.supervisor.logs import Follower

__all__ = ["Tee"]

_INTERVAL = 0.1  # a file offers no event; see ``logs``


class Tee:
    """Hands on complete lines of all logs, by one task, while anything runs."""

    def __init__(self, take: Callable[[str, bytes], None]) -> None:
        self._take = take
        self._followers: dict[str, Follower] = {}
        self._task: asyncio.Task[None] | None = None

    def add(self, name: str, follower: Follower) -> None:
        """Follow one more log, or follow it anew."""
        self._followers[name] = follower
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(), name="tee")

    async def _run(self) -> None:
        while True:
            self._pass_on()
            await asyncio.sleep(_INTERVAL)

    def _pass_on(self) -> None:
        for name, follower in self._followers.items():
            for line in follower.read():
                self._take(name, line)

    def close(self) -> None:
        """Hand on what was written last, and end."""
        self._pass_on()
        if self._task is not None:
            self._task.cancel()
            self._task = None
