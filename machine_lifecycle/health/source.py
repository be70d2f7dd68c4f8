"""What the health pages need of a machine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from machine_lifecycle.model.figures import Figures
from machine_lifecycle.model.status import StatusReport

__all__ = ["HealthSource"]


class HealthSource(Protocol):
    """The machine as the health pages see it. The machine implements it; tests use a plain class.

    Called on the event loop.
    """

    def report(self) -> StatusReport:
        """How the machine is now. Called for every page: must come from memory."""

    async def figures(self) -> Mapping[int, Figures]:
        """Use per process, by pid of the tree's root; empty where nobody measures. Called at each
        ``/metrics`` and ``/pm2/list``: what takes long, it does beside the event loop.
        """

    async def tail(self, name: str, lines: int) -> list[str]:
        """The last *lines* lines of a process's log, oldest first. Called with names from the
        report only; likewise.
        """

    async def restart_process(self, name: str) -> None:
        """Start one process anew; returns when that is under way."""

    async def restart_machine(self) -> None:
        """Boot anew; returns when that is under way."""

    async def publish_now(self) -> None:
        """Publish the machine's status to Redis, now."""
