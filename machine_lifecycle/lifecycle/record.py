"""What the lifecycle knows of its machine: plan, jobs, failures, conditions, the story."""

from __future__ import annotations

from collections import deque

import attrs

from machine_lifecycle.errors import LifecycleError
from machine_lifecycle.model.plan import BootPlan
from machine_lifecycle.model.ports import Check
from machine_lifecycle.model.services import Instance
from machine_lifecycle.model.status import StateTiming
from machine_lifecycle.states.names import MachineState
from machine_lifecycle.states.table import Table

__all__ = ["Limits", "Record", "StoryEntry", "Visit"]

STORY_LENGTH = 500
"""Entries kept: a few boots and a day of state changes, in some 100 KB."""

VISITS_LENGTH = 200
"""Visits to states that are kept: the last ones, for the table of times."""
_SERVING = (MachineState.READY, MachineState.PROCESSING)
"""States that follow each other with every job. Their stays in one attempt are summed up, or an
hour of jobs would push out the boot."""


@attrs.frozen(kw_only=True)
class Limits:
    """Limits of one state in seconds; ``None`` leaves the table's."""

    stall: float | None = None
    cap: float | None = None


@attrs.frozen(kw_only=True)
class StoryEntry:
    """One fact, and what it changed.

    Attributes:
        at: Monotonic seconds.
    """

    at: float
    attempt: int
    fact: str
    change: str

    def __str__(self) -> str:
        return f"{self.fact}: {self.change}" if self.change else self.fact


@attrs.frozen(kw_only=True)
class Visit:
    """One stay in a state. Times are monotonic seconds; ``left`` is ``None`` while it lasts.

    Where several are summed up, ``left`` is as if they had followed each other.
    """

    state: MachineState
    attempt: int
    entered: float
    left: float | None = None


@attrs.define(kw_only=True)
class Record:
    """Everything known, mutable, owned by the lifecycle and read by the machine's pages.

    Attributes:
        conditions: Kind to (reason, monotonic seconds since).
        jobs: Runs under way, each a job and its worker. A job that was handed back may be taken by
            another worker before the first has told that it let it go.
        outcomes: How many jobs ended how.
        failures: Failed attempts in a row.
    """

    attempt: int = 1
    plan: BootPlan | None = None
    checks: tuple[Check, ...] = ()
    jobs: set[tuple[str, str]] = attrs.field(factory=set)
    outcomes: dict[str, int] = attrs.field(factory=dict)
    conditions: dict[str, tuple[str, float]] = attrs.field(factory=dict)
    failures: int = 0
    failure: LifecycleError | None = None
    later_failures: tuple[LifecycleError, ...] = ()
    progress_at: float = 0.0
    boot_began: float = 0.0
    ready_at: float = 0.0
    retry_at: float = 0.0
    story: deque[StoryEntry] = attrs.field(factory=lambda: deque(maxlen=STORY_LENGTH))
    visits: deque[Visit] = attrs.field(factory=lambda: deque(maxlen=VISITS_LENGTH))

    @property
    def entered(self) -> float:
        """When the present state was entered."""
        return self.visits[-1].entered if self.visits else 0.0

    def instance(self, name: str) -> Instance | None:
        """The service of the plan that runs as this process, if there is one."""
        instances = self.plan.instances if self.plan else ()
        return next((one for one in instances if one.id == name), None)

    def leave(self, at: float) -> None:
        """Close the present visit; one that comes and goes with jobs joins the earlier ones."""
        here = self.visits[-1]
        if here.state in _SERVING:
            for number, earlier in enumerate(self.visits):
                same = (earlier.state, earlier.attempt) == (here.state, here.attempt)
                if same and earlier.left is not None:
                    summed = earlier.left + at - here.entered
                    self.visits[number] = attrs.evolve(earlier, left=summed)
                    self.visits.pop()
                    return
        self.visits[-1] = attrs.evolve(here, left=at)

    def timings(
        self, table: Table, *, attempt: int | None = None, offset: float = 0.0
    ) -> tuple[StateTiming, ...]:
        """The visits as shown to people; *offset* turns monotonic into wall-clock seconds."""
        return tuple(
            StateTiming(
                state=visit.state.value,
                attempt=visit.attempt,
                started=visit.entered + offset,
                seconds=None if visit.left is None else visit.left - visit.entered,
                expected=table.spec(visit.state).expected,
            )
            for visit in self.visits
            if attempt in (None, visit.attempt)
        )
