"""The table as a picture (Mermaid) and as a reference page (Markdown)."""

from __future__ import annotations

from machine_lifecycle.states.names import MachineState, Trigger
from machine_lifecycle.states.table import TABLE, StateSpec, Table, Transition

__all__ = ["mermaid", "states_reference"]

_MINUTE = 60.0


def mermaid(table: Table = TABLE, *, complete: bool = False) -> str:
    """A Mermaid ``stateDiagram-v2``.

    Args:
        table: What to draw.
        complete: Draw every row; otherwise the rows to Failed and Stopping that nearly all states
            share are drawn once, from a frame around those states.
    """
    titles = {spec.state: spec.title for spec in table.states}
    lines = ["stateDiagram-v2", f"    [*] --> {titles[table.initial]}"]
    common = () if complete else _common(table)
    if common:
        inner = [spec.state for spec in table.states if spec.state in _framed(table)]
        lines += ["    state Live {"]
        lines += [
            _edge(row, titles, indent=8)
            for row in table.rows
            if row.source in inner
            and (row.target or row.source) in inner
            and (row.source, row.trigger) not in common
        ]
        lines += ["    }"]
        lines += [
            f"    Live --> {titles[MachineState.FAILED]}: {Trigger.FAULTED.value}",
            f"    Live --> {titles[MachineState.STOPPING]}: {Trigger.STOP_REQUESTED.value}",
        ]
        lines += [
            _edge(row, titles)
            for row in table.rows
            if (row.source, row.trigger) not in common
            and not (row.source in inner and (row.target or row.source) in inner)
        ]
    else:
        lines += [_edge(row, titles) for row in table.rows]
    lines.append(f"    {titles[table.final]} --> [*]")
    return "\n".join(lines) + "\n"


def _framed(table: Table) -> tuple[MachineState, ...]:
    """States whose faults lead to Failed and whose stop leads to Stopping."""
    return tuple(
        spec.state
        for spec in table.states
        if any(
            row.trigger is Trigger.FAULTED and row.target is MachineState.FAILED
            for row in table.rows_from(spec.state)
        )
        and spec.state is not MachineState.RESTARTING
    )


def _common(table: Table) -> tuple[tuple[MachineState, Trigger], ...]:
    return tuple(
        (state, trigger)
        for state in _framed(table)
        for trigger in (Trigger.FAULTED, Trigger.STOP_REQUESTED)
    )


def _edge(row: Transition, titles: dict[MachineState, str], indent: int = 4) -> str:
    guard = f" [{row.guard.label}]" if row.guard else ""
    target = titles[row.target or row.source]
    return f"{' ' * indent}{titles[row.source]} --> {target}: {row.trigger.value}{guard}"


def states_reference(table: Table = TABLE) -> str:
    """Markdown: every state with its word, its limits and its rows."""
    return "\n".join(_section(table, spec) for spec in table.states)


def _section(table: Table, spec: StateSpec) -> str:
    usual = f"{spec.expected[0]:g}-{spec.expected[1]:g} s" if spec.expected else "-"
    lines = [
        f"## {spec.title}",
        "",
        spec.summary,
        "",
        "| word | phase | usual | stall limit | cap |",
        "|---|---|---|---|---|",
        (
            f"| `{spec.state.value}` | `{spec.phase.value}` | {usual} | {_limit(spec.stall)} "
            f"| {_limit(spec.cap)} |"
        ),
        "",
    ]
    rows = table.rows_from(spec.state)
    if rows:
        lines += ["| fact | leads to | why |", "|---|---|---|"]
        lines += [
            f"| `{row.trigger.value}`{f' ({row.guard.label})' if row.guard else ''} "
            f"| {table.spec(row.target).title if row.target else 'stays'} | {row.why} |"
            for row in rows
        ]
        lines.append("")
    return "\n".join(lines)


def _limit(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"{seconds:g} s" if seconds < 2 * _MINUTE else f"{seconds / _MINUTE:g} min"
