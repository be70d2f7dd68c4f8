"""What commands share when they print: JSON, tables, errors, times and sizes for people."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from machine_lifecycle.errors import LifecycleError
from machine_lifecycle.model.text import human_bytes, human_seconds

if TYPE_CHECKING:
    from rich.console import Console

__all__ = [
    "cell",
    "coloured",
    "console",
    "emit_json",
    "human_bytes",
    "human_seconds",
    "print_error",
    "print_remedies",
    "show_error",
    "table",
]

_ANY_WIDTH = 100_000  # columns; wider than any table of ours
_STATE_COLOURS = {"ready": "green", "processing": "green", "failed": "red", "fatal": "red"}


def console(*, stderr: bool = False) -> Console:
    """A console that colours only on a terminal, and obeys NO_COLOR."""
    from rich.console import Console  # noqa: PLC0415 - 60 ms that --json does without

    return Console(stderr=stderr, highlight=False, soft_wrap=not sys.stdout.isatty())


def emit_json(value: Any) -> None:
    """Print a value as JSON, one document."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def coloured(state: str) -> str:
    """The word of a machine's or a process's state, in the colour of how well it is."""
    return f"[{_STATE_COLOURS.get(state, 'yellow')}]{state}[/]"


def cell(value: object) -> str:
    """A value as it is printed in a line or a table: on one line, none of it read as markup.

    ``None`` is printed as nothing.
    """
    from rich.markup import escape  # noqa: PLC0415 - see above

    words = "" if value is None else str(value)
    return escape("".join(each if each.isprintable() else " " for each in words))


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, empty: str = "") -> None:
    """Print rows under headings. Cells may hold rich markup.

    Nothing is cut or folded, however narrow the terminal: names are there to be copied.

    Args:
        columns: The headings; they are printed in capitals.
        rows: A cell for each column.
        empty: What is printed instead where there are no rows; nothing: the headings alone.
    """
    from rich.measure import Measurement  # noqa: PLC0415 - see above
    from rich.table import Table  # noqa: PLC0415 - likewise

    if empty and not rows:
        sys.stdout.write(f"{empty}\n")
        return
    headings = [column.upper() for column in columns]
    drawn = Table(*headings, box=None, header_style="bold", pad_edge=False)
    for row in rows:
        drawn.add_row(*row)
    out = console()
    needed = Measurement.get(out, out.options.update(width=_ANY_WIDTH), drawn).maximum
    out.width = max(needed, out.width)
    out.print(drawn, soft_wrap=True)


def show_error(error: LifecycleError, *, as_json: bool = False) -> None:
    """Print an error with its context and remedies to stderr; as JSON on one line, its last."""
    if as_json:
        sys.stderr.write(json.dumps(error.to_wire(), ensure_ascii=False) + "\n")
    else:
        print_error(console(stderr=True), error.to_wire())


def print_error(out: Console, wire: Mapping[str, Any], *, indent: str = "") -> None:
    """Print an error, from its wire form: each of a group, with context and remedies."""
    from rich.markup import escape  # noqa: PLC0415 - see above

    def say(line: str) -> None:
        out.print(f"{indent}{line}", soft_wrap=True)

    if wire.get("errors"):
        for part in wire["errors"]:
            print_error(out, part, indent=indent)
        return
    say(f"[bold red]error[/] {escape(wire['summary'])} [dim]\\[{wire['code']}][/]")
    if wire.get("where"):
        say(f"  [dim]at[/] {escape(wire['where'])}")
    for line in wire.get("context", ()):
        say(f"  [dim]|[/] {escape(line)}")
    print_remedies(out, wire.get("remedies", ()), indent=f"{indent}  ")
    say(f"  [dim]more: machine-lifecycle explain {wire['code']}[/]")


def print_remedies(out: Console, remedies: Iterable[Mapping[str, Any]], *, indent: str) -> None:
    """Print what to do about an error, from the wire form. Nothing is folded, however narrow the
    terminal: commands are there to be pasted.
    """
    from rich.markup import escape  # noqa: PLC0415 - see above

    for remedy in remedies:
        out.print(f"{indent}[green]->[/] {escape(remedy['text'])}", soft_wrap=True)
        if remedy.get("command"):
            out.print(f"{indent}     [bold]{escape(remedy['command'])}[/]", soft_wrap=True)
