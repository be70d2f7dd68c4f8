"""The steps that run now on a terminal: a line for each, and one bar for all."""

from __future__ import annotations

import time
from collections.abc import Callable

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table

from machine_lifecycle.cli.output import human_seconds
from machine_lifecycle.model.progress import ENDED_BADLY

__all__ = ["RunningSteps"]

_BAR = 30
"""Columns of the bar."""
_TOLD = 1.0
"""Seconds from which on a step that ended well leaves a line of its own."""
_REFRESHES = 8
"""Per second: as often as a spinner needs to look alive."""


class RunningSteps:
    """Draws them while there are any; a progress sink. What ended is said once, above.

    Args:
        console: The terminal.
        title: What stands before the bar.
        clock: Seconds, for the times of what runs.
    """

    def __init__(
        self, console: Console, title: str = "", clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._console = console
        self._title = title
        self._clock = clock
        self._began = clock()
        self._running: dict[str, tuple[float, str]] = {}
        self._spinner = Spinner("dots")
        self._before = 0
        self._ended = 0
        self._total = 0
        self._live: Live | None = None

    def step(self, name: str, detail: str = "", *, done: int = 0, total: int = 0) -> None:
        """A step goes on, or ended badly."""
        if total and not self._running and done < self._ended:  # another stage begins to count
            self._before += self._total
            self._ended = self._total = 0
        self._total = max(self._total, total)
        self._ended = max(self._ended, done)
        if detail.startswith(ENDED_BADLY):
            self._running.pop(name, None)
            self._console.print(f"[red]✗[/] {escape(name)}: {escape(detail)}")
        else:
            began, before = self._running.get(name, (self._clock(), ""))
            self._running[name] = (began, detail or before)
        self._draw()

    def finished(self, name: str, *, seconds: float, skipped: bool = False) -> None:
        """A step ended well, or had nothing to do."""
        self._running.pop(name, None)
        self._ended += 1
        if seconds >= _TOLD and not skipped:
            self._console.print(f"[green]✓[/] {escape(name)} [dim]{human_seconds(seconds)}[/]")
        self._draw()

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _draw(self) -> None:
        if self._live is None and self._running:
            self._live = Live(
                self, console=self._console, refresh_per_second=_REFRESHES, transient=True
            )
            self._live.start(refresh=True)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Those that began first, as many as fit, and the bar."""
        running = list(self._running.items())  # the terminal is drawn from a thread of its own
        now = self._clock()
        room = max(1, (options.height or console.height) - 3)
        rows = Table.grid(padding=(0, 1), expand=True)
        rows.add_column(width=1)
        rows.add_column(no_wrap=True)
        rows.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
        rows.add_column(no_wrap=True, justify="right")
        for name, (began, detail) in running[:room]:
            rows.add_row(
                self._spinner, escape(name), f"[dim]{escape(detail)}[/]", _since(began, now)
            )
        yield rows
        if (more := len(running) - room) > 0:
            yield f"[dim]  and {more} more[/]"
        if self._total:
            bar = Table.grid(padding=(0, 1))
            ended = self._before + min(self._ended, self._total)
            total = self._before + self._total
            bar.add_row(
                escape(self._title),
                ProgressBar(total=total, completed=ended, width=_BAR),
                f"{ended} of {total} steps",
                f"[dim]{_since(self._began, now)}[/]",
            )
            yield bar


def _since(began: float, now: float) -> str:
    """How long something takes; nothing in its first second, which would only flicker."""
    return human_seconds(int(now - began)) if now - began >= 1 else ""
