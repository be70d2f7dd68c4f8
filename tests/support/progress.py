"""A progress sink that keeps what it is told."""

from __future__ import annotations

__all__ = ["KeptProgress"]


class KeptProgress:
    """Fulfils ``model.ports.ProgressSink``; one line per report."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def step(self, name: str, detail: str = "", *, done: int = 0, total: int = 0) -> None:  # noqa: ARG002
        self.lines.append(f"{name}: {detail}")

    def finished(self, name: str, *, seconds: float, skipped: bool = False) -> None:  # noqa: ARG002
        self.lines.append(f"{name} {'skipped' if skipped else 'finished'}")
