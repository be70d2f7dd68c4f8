"""The table is the life of a machine; these tests pin what must not change by accident."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from machine_lifecycle.states.diagram import mermaid, states_reference
from machine_lifecycle.states.engine import Engine
from machine_lifecycle.states.errors import TriggerNotAllowed
from machine_lifecycle.states.names import MachineState as S
from machine_lifecycle.states.names import Trigger as T  # noqa: N817 - a table is read in columns
from machine_lifecycle.states.table import TABLE, Table, TableFault, Transition, View

BOOT = [
    (S.STARTING, T.PLAN_MADE, S.INSTALLING),
    (S.INSTALLING, T.BASE_INSTALLED, S.CUSTOM_NODES),
    (S.CUSTOM_NODES, T.NODES_INSTALLED, S.PM_GENERATION),
    (S.PM_GENERATION, T.PROCESSES_PREPARED, S.LAUNCHING),
    (S.LAUNCHING, T.PROCESSES_LAUNCHED, S.SERVICES_STARTING),
    (S.SERVICES_STARTING, T.SERVICES_ONLINE, S.WORKERS_STARTING),
    (S.WORKERS_STARTING, T.WORKERS_CONNECTED, S.HEALTH_CHECK),
    (S.HEALTH_CHECK, T.MACHINE_HEALTHY, S.READY),
]
LIVE = [state for state in S if state is not S.STOPPED]


def at(state: S) -> Engine:
    """An engine that stands in *state*, brought there by the table's own rows."""
    engine = Engine()
    if state in (S.RESTARTING, S.FAILED):
        engine.fire(T.FAULTED, View())
        if state is S.RESTARTING:
            engine.fire(T.RETRY, View(attempts_left=1))
    elif state in (S.STOPPING, S.STOPPED):
        engine.fire(T.STOP_REQUESTED, View())
        if state is S.STOPPED:
            engine.fire(T.ALL_STOPPED, View())
    else:
        for source, trigger, _ in BOOT:
            if engine.state is state:
                break
            assert engine.state is source
            engine.fire(trigger, View())
        if state is S.PROCESSING:
            engine.fire(T.JOB_TAKEN, View(jobs=1))
    assert engine.state is state
    return engine


@pytest.mark.parametrize(("source", "trigger", "target"), BOOT)
def test_boot_goes_through_every_state_in_order(source: S, trigger: T, target: S) -> None:
    assert at(source).fire(trigger, View()).target is target


@pytest.mark.parametrize("state", [s for s in LIVE if s not in (S.FAILED, S.STOPPING)])
def test_a_fault_leads_to_failed(state: S) -> None:
    change = at(state).fire(T.FAULTED, View())
    assert (change.target, change.moved) == (S.FAILED, True)


@pytest.mark.parametrize("state", [S.FAILED, S.STOPPING])
def test_a_further_fault_stays(state: S) -> None:
    change = at(state).fire(T.FAULTED, View())
    assert (change.target, change.moved) == (state, False)


@pytest.mark.parametrize("state", [s for s in LIVE if s is not S.STOPPING])
def test_a_stop_is_honoured_in_every_state(state: S) -> None:
    assert at(state).fire(T.STOP_REQUESTED, View()).target is S.STOPPING


def test_a_second_stop_stays_in_stopping() -> None:
    assert not at(S.STOPPING).fire(T.STOP_REQUESTED, View()).moved


def test_all_stopped_ends_the_life() -> None:
    engine = at(S.STOPPING)
    engine.fire(T.ALL_STOPPED, View())
    assert engine.final
    assert engine.allowed() == ()


def test_ready_and_processing_follow_the_jobs() -> None:
    engine = at(S.READY)
    assert engine.fire(T.JOB_TAKEN, View(jobs=1)).target is S.PROCESSING
    assert not engine.fire(T.JOB_TAKEN, View(jobs=2)).moved
    assert not engine.fire(T.JOB_DONE, View(jobs=1)).moved
    assert engine.fire(T.JOB_DONE, View(jobs=0)).target is S.READY


def test_retry_needs_an_attempt_left() -> None:
    engine = at(S.FAILED)
    with pytest.raises(TriggerNotAllowed):
        engine.fire(T.RETRY, View(attempts_left=0))
    assert engine.state is S.FAILED
    assert engine.fire(T.RETRY, View(attempts_left=1)).target is S.RESTARTING


def test_restarting_begins_anew_and_giving_up_stops() -> None:
    assert at(S.RESTARTING).fire(T.CLEANED_UP, View()).target is S.STARTING
    assert at(S.FAILED).fire(T.GAVE_UP, View()).target is S.STOPPING


@pytest.mark.parametrize("state", list(S))
def test_every_other_trigger_is_refused_and_moves_nothing(state: S) -> None:
    engine = at(state)
    for trigger in set(T) - set(TABLE.allowed(state)):
        with pytest.raises(TriggerNotAllowed) as raised:
            engine.fire(trigger, View(jobs=1, attempts_left=1))
        assert engine.state is state
        assert raised.value.allowed == tuple(allowed.value for allowed in TABLE.allowed(state))


def test_the_table_has_these_rows_and_no_more() -> None:
    """A new row is a decision: it is written here too."""
    moving = {(row.source, row.trigger, row.target) for row in TABLE.rows}
    faulting = {(s, T.FAULTED, S.FAILED) for s in LIVE if s not in (S.FAILED, S.STOPPING)}
    stopping = {(s, T.STOP_REQUESTED, S.STOPPING) for s in LIVE if s is not S.STOPPING}
    assert moving == {
        *BOOT,
        *faulting,
        *stopping,
        (S.READY, T.JOB_TAKEN, S.PROCESSING),
        (S.PROCESSING, T.JOB_TAKEN, None),
        (S.PROCESSING, T.JOB_DONE, None),
        (S.PROCESSING, T.JOB_DONE, S.READY),
        (S.FAILED, T.FAULTED, None),
        (S.FAILED, T.RETRY, S.RESTARTING),
        (S.FAILED, T.GAVE_UP, S.STOPPING),
        (S.RESTARTING, T.CLEANED_UP, S.STARTING),
        (S.STOPPING, T.STOP_REQUESTED, None),
        (S.STOPPING, T.FAULTED, None),
        (S.STOPPING, T.ALL_STOPPED, S.STOPPED),
    }


def without(table: Table, **wanted: object) -> tuple[Transition, ...]:
    return tuple(
        row
        for row in table.rows
        if any(getattr(row, name) is not value for name, value in wanted.items())
    )


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"rows": without(TABLE, source=S.READY, trigger=T.FAULTED)}, "does not answer"),
        ({"rows": without(TABLE, source=S.INSTALLING, trigger=T.STOP_REQUESTED)}, "does not"),
        ({"rows": without(TABLE, trigger=T.PLAN_MADE)}, "can't be reached"),
        ({"rows": without(TABLE, trigger=T.ALL_STOPPED)}, "dead end"),
        ({"rows": (*TABLE.rows, TABLE.rows[0])}, "twice in the same way"),
        (
            {
                "rows": (
                    *TABLE.rows,
                    Transition(
                        source=S.FAILED, trigger=T.RETRY, target=S.RESTARTING, why="no guard"
                    ),
                )
            },
            "with and without a guard",
        ),
        ({"states": TABLE.states[1:]}, "described 0 times"),
        ({"states": (*TABLE.states, TABLE.states[0])}, "described 2 times"),
        (
            {
                "rows": (
                    *TABLE.rows,
                    Transition(source=S.STOPPED, trigger=T.RETRY, target=S.STARTING, why="no"),
                )
            },
            "leaves the final state",
        ),
    ],
)
def test_a_table_that_contradicts_itself_is_refused(
    changes: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(TableFault, match=complaint):
        attrs.evolve(TABLE, **changes)


def test_engines_are_independent() -> None:
    one, two = Engine(), Engine()
    one.fire(T.PLAN_MADE, View())
    assert (one.state, two.state) == (S.INSTALLING, S.STARTING)


def test_the_diagram_draws_every_state_and_edge() -> None:
    drawn = mermaid(complete=True)
    titles = {spec.state: spec.title for spec in TABLE.states}
    for row in TABLE.rows:
        edge = f"{titles[row.source]} --> {titles[row.target or row.source]}: {row.trigger.value}"
        assert edge in drawn
    short = mermaid()
    assert all(title in short for title in titles.values())
    assert len(short.splitlines()) < len(drawn.splitlines())


def test_the_reference_names_every_state_and_reason() -> None:
    page = states_reference()
    assert all(f"`{state.value}`" in page for state in S)
    assert all(row.why in page for row in TABLE.rows)
