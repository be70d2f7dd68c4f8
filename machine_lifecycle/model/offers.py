"""What packages can offer us: one entry point group for each kind."""

from __future__ import annotations

from enum import Enum

__all__ = ["Offer"]


class Offer(Enum):
    """A kind of thing that a package offers; its value names it to people."""

    SERVICE = "service"
    INSTALLER = "installer"
    CONNECTOR = "connector"
    OBSERVER = "observer"
    GATE = "gate"

    @property
    def group(self) -> str:
        """The entry point group in which packages offer it."""
        return f"machine_lifecycle.{self.value}s"
