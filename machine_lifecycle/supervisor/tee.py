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
            # A follower reads a part of what there is: whoever writes more is not waited for.
            more = self._pass_on()
            await asyncio.sleep(0 if more else _INTERVAL)

    def _pass_on(self) -> bool:
        """Hand on what is there, or a part of it; whether there was anything."""
        anything = False
        for name, follower in self._followers.items():
            for line in follower.read():
                anything = True
                self._take(name, line)
        return anything

    def close(self) -> None:
        """Hand on what was written last, and end."""
        while self._pass_on():
            continue
        if self._task is not None:
            self._task.cancel()
            self._task = None
