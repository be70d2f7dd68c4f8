"""The table: every state, and every fact that leads from one to another. Plain data.

From it come the engine, the checks below (run at import), the Mermaid diagram, the reference page
of states, the triggers named in errors and in ``/status``, the alphabet of the property test.

What a table cannot say stands elsewhere: what happens in a state is in the module of its name; when
to try again is in ``lifecycle/policy.py``; how a single process does is in ``supervisor/unit.py``.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs

from machine_lifecycle.states.names import MachineState as S
from machine_lifecycle.states.names import Phase
from machine_lifecycle.states.names import Trigger as T  # noqa: N817 - a table is read in columns

__all__ = ["TABLE", "Guard", "StateSpec", "Table", "TableFault", "Transition", "View"]


class TableFault(Exception):
    """The table contradicts itself: a mistake of ours, found at import."""


@attrs.frozen(kw_only=True)
class View:
    """All that a guard may look at.

    Attributes:
        jobs: Jobs running now, the one that just ended not counted.
        attempts_left: Boot attempts that remain.
    """

    jobs: int = 0
    attempts_left: int = 0


@attrs.frozen
class Guard:
    """A condition on a row: its label is drawn in the diagram, its test decides."""

    label: str
    test: Callable[[View], bool]


@attrs.frozen(kw_only=True)
class StateSpec:
    """What is known of a state.

    Attributes:
        summary: One line for people.
        expected: Usual duration in seconds, low and high; shown, never enforced.
        stall: Seconds without any progress after which the state has failed; ``None``: never.
        cap: Longest stay in seconds; ``None``: no bound. Generous: real installations of many
            node packs take minutes.
        activity: Whether something is done on entry; the others wait for facts.
    """

    state: S
    title: str
    phase: Phase
    summary: str
    expected: tuple[float, float] | None = None
    stall: float | None = None
    cap: float | None = None
    activity: bool = True


@attrs.frozen(kw_only=True)
class Transition:
    """One row: a fact in a state, and where it leads.

    Attributes:
        target: ``None`` stays in the state.
        why: The reason for the row, for the reference page.
    """

    source: S
    trigger: T
    target: S | None
    why: str
    guard: Guard | None = None


JOBS_REMAIN = Guard("jobs remain", lambda view: view.jobs > 0)
LAST_JOB = Guard("last job", lambda view: view.jobs == 0)
ATTEMPTS_LEFT = Guard("attempts left", lambda view: view.attempts_left > 0)

_MINUTE = 60.0
_HOUR = 3600.0

STATES = (
    StateSpec(
        state=S.STARTING,
        title="Starting",
        phase=Phase.STARTING,
        summary="Looks at the hardware, opens the queue, makes the plan; workers stand by.",
        expected=(2, 5),
        stall=30,
        cap=2 * _MINUTE,
    ),
    StateSpec(
        state=S.INSTALLING,
        title="Installing",
        phase=Phase.STARTING,
        summary="Brings every service to disk: clones it, makes its environment.",
        expected=(30, 180),
        stall=10 * _MINUTE,
        cap=2 * _HOUR,
    ),
    StateSpec(
        state=S.CUSTOM_NODES,
        title="CustomNodes",
        phase=Phase.STARTING,
        summary="Installs the node packs of ComfyUI.",
        expected=(30, 180),
        stall=10 * _MINUTE,
        cap=2 * _HOUR,
    ),
    StateSpec(
        state=S.PM_GENERATION,
        title="PMGeneration",
        phase=Phase.STARTING,
        summary="Writes down what will run: the process manifest.",
        expected=(1, 3),
        stall=30,
        cap=2 * _MINUTE,
    ),
    StateSpec(
        state=S.LAUNCHING,
        title="Launching",
        phase=Phase.STARTING,
        summary="Spawns the services, and workers that do not stand by yet.",
        expected=(1, 5),
        stall=_MINUTE,
        cap=5 * _MINUTE,
    ),
    StateSpec(
        state=S.SERVICES_STARTING,
        title="ServicesStarting",
        phase=Phase.STARTING,
        summary="Waits until every service answers.",
        expected=(10, 30),
        stall=15 * _MINUTE,
        cap=30 * _MINUTE,
    ),
    StateSpec(
        state=S.WORKERS_STARTING,
        title="WorkersStarting",
        phase=Phase.STARTING,
        summary="Waits until every worker is connected to its service and to the queue.",
        expected=(5, 15),
        stall=2 * _MINUTE,
        cap=5 * _MINUTE,
    ),
    StateSpec(
        state=S.HEALTH_CHECK,
        title="HealthCheck",
        phase=Phase.STARTING,
        summary="Verifies every service, every worker and the registration.",
        expected=(2, 8),
        stall=_MINUTE,
        cap=2 * _MINUTE,
    ),
    StateSpec(
        state=S.READY,
        title="Ready",
        phase=Phase.READY,
        summary="Waits for jobs.",
        activity=False,
    ),
    StateSpec(
        state=S.PROCESSING,
        title="Processing",
        phase=Phase.READY,
        summary="Does at least one job.",
        activity=False,
    ),
    StateSpec(
        state=S.FAILED,
        title="Failed",
        phase=Phase.STARTING,
        summary="Keeps the cause and the remedies in sight, until the next attempt or for good.",
        activity=False,
    ),
    StateSpec(
        state=S.RESTARTING,
        title="Restarting",
        phase=Phase.STARTING,
        summary="Ends what the failed attempt left running.",
        stall=_MINUTE,
        cap=2 * _MINUTE,
    ),
    StateSpec(
        state=S.STOPPING,
        title="Stopping",
        phase=Phase.SHUTDOWN,
        summary="Hands jobs back, ends every process, deregisters.",
        # Its cap is the stop budget, a setting.
    ),
    StateSpec(
        state=S.STOPPED,
        title="Stopped",
        phase=Phase.SHUTDOWN,
        summary="Nothing of the machine runs any more.",
        activity=False,
    ),
)

_BOOT = (
    (S.STARTING, T.PLAN_MADE, S.INSTALLING, "what will run is decided"),
    (S.INSTALLING, T.BASE_INSTALLED, S.CUSTOM_NODES, "every service is on disk"),
    (S.CUSTOM_NODES, T.NODES_INSTALLED, S.PM_GENERATION, "node packs are on disk"),
    (S.PM_GENERATION, T.PROCESSES_PREPARED, S.LAUNCHING, "the manifest is written"),
    (S.LAUNCHING, T.PROCESSES_LAUNCHED, S.SERVICES_STARTING, "every process is spawned"),
    (S.SERVICES_STARTING, T.SERVICES_ONLINE, S.WORKERS_STARTING, "every service answers"),
    (S.WORKERS_STARTING, T.WORKERS_CONNECTED, S.HEALTH_CHECK, "every worker is connected"),
    (S.HEALTH_CHECK, T.MACHINE_HEALTHY, S.READY, "every check passed"),
)
_LIVE = tuple(spec.state for spec in STATES if spec.state is not S.STOPPED)
_FAULTING = tuple(state for state in _LIVE if state not in (S.FAILED, S.STOPPING))

_ROWS = (
    *(Transition(source=a, trigger=t, target=b, why=why) for a, t, b, why in _BOOT),
    Transition(source=S.READY, trigger=T.JOB_TAKEN, target=S.PROCESSING, why="a worker took a job"),
    Transition(
        source=S.PROCESSING, trigger=T.JOB_TAKEN, target=None, why="several workers run at once"
    ),
    Transition(
        source=S.PROCESSING,
        trigger=T.JOB_DONE,
        target=None,
        guard=JOBS_REMAIN,
        why="other workers are still busy",
    ),
    Transition(
        source=S.PROCESSING, trigger=T.JOB_DONE, target=S.READY, guard=LAST_JOB, why="all idle"
    ),
    *(
        Transition(
            source=state, trigger=T.FAULTED, target=S.FAILED, why="something essential went wrong"
        )
        for state in _FAULTING
    ),
    Transition(
        source=S.FAILED,
        trigger=T.FAULTED,
        target=None,
        why="a later fault is recorded beside the first",
    ),
    Transition(
        source=S.FAILED,
        trigger=T.RETRY,
        target=S.RESTARTING,
        guard=ATTEMPTS_LEFT,
        why="the wait before the next attempt is over",
    ),
    Transition(
        source=S.FAILED,
        trigger=T.GAVE_UP,
        target=S.STOPPING,
        why="no attempt is left, or none could help",
    ),
    Transition(
        source=S.RESTARTING,
        trigger=T.CLEANED_UP,
        target=S.STARTING,
        why="nothing of the failed attempt runs",
    ),
    *(
        Transition(source=state, trigger=T.STOP_REQUESTED, target=S.STOPPING, why="told to stop")
        for state in _LIVE
        if state is not S.STOPPING
    ),
    Transition(
        source=S.STOPPING, trigger=T.STOP_REQUESTED, target=None, why="the second time forces"
    ),
    Transition(
        source=S.STOPPING, trigger=T.FAULTED, target=None, why="a fault while stopping is recorded"
    ),
    Transition(
        source=S.STOPPING, trigger=T.ALL_STOPPED, target=S.STOPPED, why="nothing runs any more"
    ),
)


@attrs.frozen(kw_only=True)
class Table:
    """States and rows that fit together; a ``TableFault`` otherwise.

    Attributes:
        initial: Where every life begins.
        final: Where it ends.
    """

    initial: S
    final: S
    states: tuple[StateSpec, ...]
    rows: tuple[Transition, ...]

    def __attrs_post_init__(self) -> None:
        check(self)

    def spec(self, state: S) -> StateSpec:
        """What is known of *state*."""
        return next(spec for spec in self.states if spec.state is state)

    def rows_from(self, state: S) -> tuple[Transition, ...]:
        """The rows that start in *state*, in order."""
        return tuple(row for row in self.rows if row.source is state)

    def allowed(self, state: S) -> tuple[T, ...]:
        """The triggers that *state* answers, once each, in order."""
        return tuple(dict.fromkeys(row.trigger for row in self.rows_from(state)))


def check(table: Table) -> None:
    """Raise a ``TableFault`` with everything that is wrong with the table's structure."""
    faults = [*_check_states(table), *_check_rows(table), *_check_reach(table)]
    if faults:
        raise TableFault("; ".join(faults))


def _check_states(table: Table) -> list[str]:
    named = [spec.state for spec in table.states]
    faults = [
        f"{state} is described {named.count(state)} times" for state in S if named.count(state) != 1
    ]
    faults += [
        f"{trigger} is used nowhere"
        for trigger in T
        if not any(row.trigger is trigger for row in table.rows)
    ]
    return faults


def _check_rows(table: Table) -> list[str]:
    faults = [
        f"a row leaves the final state by {row.trigger}" for row in table.rows_from(table.final)
    ]
    for state in (spec.state for spec in table.states if spec.state is not table.final):
        faults += [
            f"{state} does not answer {must}"
            for must in (T.FAULTED, T.STOP_REQUESTED)
            if must not in table.allowed(state)
        ]
        for trigger in table.allowed(state):
            guards = [row.guard for row in table.rows_from(state) if row.trigger is trigger]
            labels = [guard.label if guard else "" for guard in guards]
            if len(set(labels)) != len(labels):
                faults.append(f"{state} answers {trigger} twice in the same way")
            if len(labels) > 1 and "" in labels:
                faults.append(f"{state} answers {trigger} with and without a guard")
    return faults


def _check_reach(table: Table) -> list[str]:
    def closure(start: S, step: Callable[[S], set[S]]) -> set[S]:
        found, fresh = {start}, [start]
        while fresh:
            fresh = [*(step(fresh.pop()) - found), *fresh]
            found.update(fresh)
        return found

    ahead = closure(table.initial, lambda at: {r.target for r in table.rows_from(at) if r.target})
    back = closure(table.final, lambda at: {r.source for r in table.rows if r.target is at})
    states = {spec.state for spec in table.states}
    return [
        *(f"{state} can't be reached" for state in states - ahead),
        *(f"{state} is a dead end" for state in states - back),
    ]


TABLE = Table(initial=S.STARTING, final=S.STOPPED, states=STATES, rows=_ROWS)
