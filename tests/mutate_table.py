"""Flip every row and guard of the state table, one at a time; each must turn some test red.

Run ``python tests/mutate_table.py`` (about two minutes). Ends with status 1 if a mutant survives,
which means that a row could change without anybody noticing.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import attrs

from machine_lifecycle.states import table as module
from machine_lifecycle.states.names import MachineState
from machine_lifecycle.states.table import TABLE, Guard, Table, TableFault, Transition, View

HERE = Path(__file__).parent
TESTS = [str(HERE / "unit" / "states"), str(HERE / "unit" / "lifecycle")]


def mutants() -> Iterator[tuple[str, tuple[Transition, ...]]]:
    """Every single change of one row: left out, led elsewhere, its guard dropped or inverted."""
    for number, row in enumerate(TABLE.rows):
        name = f"{row.source.value} {row.trigger.value} {row.target.value if row.target else '='}"
        before, after = TABLE.rows[:number], TABLE.rows[number + 1 :]
        yield f"{name}: left out", (*before, *after)
        others = [s for s in (MachineState.READY, MachineState.FAILED) if s is not row.target]
        yield (
            f"{name}: leads to {others[0].value}",
            (*before, attrs.evolve(row, target=others[0]), *after),
        )
        if row.target is not None:
            yield f"{name}: stays", (*before, attrs.evolve(row, target=None), *after)
        if row.guard is not None:
            yield f"{name}: unguarded", (*before, attrs.evolve(row, guard=None), *after)
            inverted = Guard(f"not {row.guard.label}", _not(row.guard))
            yield f"{name}: inverted", (*before, attrs.evolve(row, guard=inverted), *after)


def _not(guard: Guard) -> Callable[[View], bool]:
    return lambda view: not guard.test(view)


def run_tests_on(rows: tuple[Transition, ...]) -> int:
    """Put a table in place of ours before anything has read it, and run its tests."""
    import pytest  # noqa: PLC0415 - only the children need it

    try:
        mutated = Table(initial=TABLE.initial, final=TABLE.final, states=TABLE.states, rows=rows)
    except TableFault as fault:
        sys.stdout.write(f"refused at import: {fault}\n")
        return 1
    module.TABLE = mutated
    return pytest.main(["-x", "-q", "-p", "no:randomly", "-p", "no:cacheprovider", *TESTS])


def killed(number: int) -> bool:
    """Whether the tests notice mutant *number*."""
    child = subprocess.run(
        [sys.executable, __file__, str(number)], capture_output=True, text=True, check=False
    )
    return child.returncode != 0


def main() -> int:
    """Try every mutant; the number of survivors decides the status."""
    found = list(mutants())
    if len(sys.argv) > 1:
        return run_tests_on(found[int(sys.argv[1])][1])
    if subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", *TESTS], capture_output=True, check=False
    ).returncode:
        sys.stdout.write("the tests fail without any change\n")
        return 1
    with ThreadPoolExecutor(max_workers=2) as pool:
        results = list(pool.map(killed, range(len(found))))
    survivors = [name for (name, _), dead in zip(found, results, strict=True) if not dead]
    for name in survivors:
        sys.stdout.write(f"survived: {name}\n")
    sys.stdout.write(f"{len(found) - len(survivors)} of {len(found)} mutants were noticed\n")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
