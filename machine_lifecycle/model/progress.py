"""Progress within a state: who takes it, and nobody."""

from __future__ import annotations

from typing import Protocol

__all__ = ["ENDED_BADLY", "FAILED", "LEFT_OUT", "ProgressSink", "Unheard"]

FAILED = "failed: "
"""How the last detail of a step begins that failed."""
LEFT_OUT = "left out: "
"""And of one that was not done, since another failed."""
ENDED_BADLY = (FAILED, LEFT_OUT)


class ProgressSink(Protocol):
    """Takes progress within a state. Every call counts as progress for the stall limit."""

    def step(self, name: str, detail: str = "", *, done: int = 0, total: int = 0) -> None:
        """A step goes on."""

    def finished(self, name: str, *, seconds: float, skipped: bool = False) -> None:
        """A step ended well, or was skipped."""


class Unheard:
    """A progress sink for progress that nobody asked for."""

    def step(self, name: str, detail: str = "", *, done: int = 0, total: int = 0) -> None:
        """Say it to nobody."""

    def finished(self, name: str, *, seconds: float, skipped: bool = False) -> None:
        """Likewise."""
