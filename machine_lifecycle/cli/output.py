"""What commands share when they print: JSON, tables, errors, times and sizes for people."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from machine_lifecycle.errors import LifecycleError, Problems
from machine_lifecycle.model.text import human_bytes, human_seconds

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["console", "emit_json", "human_bytes", "human_seconds", "show_error", "table"]

_ANY_WIDTH = 100_000  # columns; wider than any table of ours


def console(*, stderr: bool = False) -> Console:
    """A console that colours only on a terminal, and obeys NO_COLOR."""
    from rich.console import Console  # noqa: PLC0415 - 60 ms that --json does without

    return Console(stderr=stderr, highlight=False, soft_wrap=not sys.stdout.isatty())


def emit_json(value: Any) -> None:
    """Print a value as JSON, one document."""
    json.dump(value, sys.stdout, indent=2, ensure_ascii=False)
    sys.stdout.write("\n")


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, title: str = "") -> None:
    """Print rows under headings. Cells may hold rich markup.

    Nothing is cut or folded, however narrow the terminal: names are there to be copied.
    """
    from rich.measure import Measurement  # noqa: PLC0415 - see above
    from rich.table import Table  # noqa: PLC0415 - likewise

    drawn = Table(*columns, title=title or None, box=None, header_style="bold", pad_edge=False)
    for row in rows:
        drawn.add_row(*row)
    out = console()
    needed = Measurement.get(out, out.options.update(width=_ANY_WIDTH), drawn).maximum
    out.width = max(needed, out.width)
    out.print(drawn, soft_wrap=True)


def show_error(error: LifecycleError) -> None:
    """Print an error with its context and remedies to stderr."""
    from rich.markup import escape  # noqa: PLC0415 - see above

    out = console(stderr=True)
    if isinstance(error, Problems) and len(error.parts()) > 1:
        out.print(f"[bold red]error[/] {escape(error.summary)}")
    for part in error.parts():
        out.print(f"[bold red]error[/] {escape(part.summary)} [dim]\\[{part.code}][/]")
        if part.where:
            out.print(f"  [dim]at[/] {escape(part.where)}")
        for line in part.context:
            out.print(f"  [dim]|[/] {escape(line)}")
        for remedy in part.remedies:
            out.print(f"  [green]->[/] {escape(remedy.text)}")
            if remedy.command:
                out.print(f"       [bold]{escape(remedy.command)}[/]")
        out.print(f"  [dim]more: machine-lifecycle explain {part.code}[/]")
