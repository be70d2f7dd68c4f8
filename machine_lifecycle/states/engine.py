"""The stepper: the table, run by ``transitions``. The only module that imports that library.

The library is used as validator and stepper alone: no callbacks, no generated methods, no queue.
Anything that takes time happens outside, after the step; a raised error leaves the state unmoved.
"""

from __future__ import annotations

from typing import Any

import attrs
from transitions import Machine

from machine_lifecycle.states.errors import TriggerNotAllowed
from machine_lifecycle.states.names import MachineState, Trigger
from machine_lifecycle.states.table import TABLE, Guard, Table, Transition, View

__all__ = ["Change", "Engine"]


@attrs.frozen(kw_only=True)
class Change:
    """What a trigger did.

    Attributes:
        moved: False for a row that stays in its state.
    """

    source: MachineState
    target: MachineState
    trigger: Trigger
    why: str
    moved: bool


class _Cursor:
    """The library's model. Private and unslotted: the library decorates it with methods."""

    state: MachineState


class Engine:
    """Where one machine is, and where a trigger would lead it."""

    def __init__(self, table: Table = TABLE) -> None:
        self._table = table
        self._cursor = _Cursor()
        self._machine = Machine(
            model=self._cursor,
            states=[spec.state for spec in table.states],
            initial=table.initial,
            transitions=[_row(row) for row in table.rows],
            auto_transitions=False,
            ignore_invalid_triggers=False,
            send_event=True,
            queued=False,
        )

    @property
    def state(self) -> MachineState:
        """Where the machine is."""
        return self._cursor.state

    @property
    def final(self) -> bool:
        """Whether its life is over."""
        return self.state is self._table.final

    def allowed(self) -> tuple[Trigger, ...]:
        """Triggers the present state answers."""
        return self._table.allowed(self.state)

    def fire(self, trigger: Trigger, view: View) -> Change:
        """Take one step.

        Raises:
            TriggerNotAllowed: The state has no row for it, or no row's guard holds. Nothing moved.
        """
        source = self.state
        row = next(
            (
                row
                for row in self._table.rows_from(source)
                if row.trigger is trigger and (row.guard is None or row.guard.test(view))
            ),
            None,
        )
        if row is None or not self._machine.events[trigger.value].trigger(self._cursor, view):
            raise TriggerNotAllowed(
                trigger=trigger.value,
                state=source.value,
                allowed=tuple(allowed.value for allowed in self.allowed()),
            )
        return Change(
            source=source,
            target=self.state,
            trigger=trigger,
            why=row.why,
            moved=row.target is not None,
        )


def _row(row: Transition) -> dict[str, Any]:
    return {
        "trigger": row.trigger.value,
        "source": row.source,
        "dest": row.target,
        "conditions": [_condition(row.guard)] if row.guard else [],
    }


def _condition(guard: Guard) -> Any:
    return lambda event: guard.test(event.args[0])
