"""One step of the lifecycle: fire a trigger, write it into the story, say what follows from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from machine_lifecycle.lifecycle import events
from machine_lifecycle.lifecycle.directives import (
    CancelActivity,
    Directive,
    Emit,
    StartActivity,
    WakeAt,
)
from machine_lifecycle.lifecycle.record import Limits, Record, StoryEntry, Visit
from machine_lifecycle.states import stimuli
from machine_lifecycle.states.engine import Engine
from machine_lifecycle.states.names import MachineState, Trigger
from machine_lifecycle.states.table import Table, View

__all__ = ["Stepper"]


class Stepper:
    """Moves the engine and keeps the record true to it."""

    def __init__(
        self,
        *,
        record: Record,
        table: Table,
        limits: Mapping[MachineState, Limits],
        stop_budget: float,
        attempts_left: Callable[[], int],
    ) -> None:
        self.engine: Engine = Engine(table)
        self._record = record
        self._table = table
        self._limits = dict(limits)
        self._stop_budget = stop_budget
        self._attempts_left = attempts_left

    @property
    def state(self) -> MachineState:
        """Where the machine is."""
        return self.engine.state

    def move(self, stimulus: stimuli.Stimulus) -> list[Directive]:
        """Fire the trigger of a fact."""
        if stimulus.trigger is None:
            raise TypeError(f"{stimulus.words} moves no state")
        return self.fire(stimulus.trigger, stimulus.at, stimulus.words)

    def fire(self, trigger: Trigger, at: float, words: str) -> list[Directive]:
        """Take one step; what is to be done because of it."""
        view = View(jobs=len(self._record.jobs), attempts_left=self._attempts_left())
        change = self.engine.fire(trigger, view)
        told = f"{change.source.value} -> {change.target.value}" if change.moved else "stays"
        self._tell(at, words, told)
        if not change.moved:
            return []
        done: list[Directive] = []
        if trigger in (Trigger.FAULTED, Trigger.STOP_REQUESTED):
            done.append(CancelActivity())
        changed = events.Changed(
            attempt=self._record.attempt,
            source=change.source,
            target=change.target,
            trigger=trigger.value,
            why=change.why,
            seconds=at - self._record.entered,
        )
        self._record.leave(at)
        self._record.visits.append(
            Visit(state=change.target, attempt=self._record.attempt, entered=at)
        )
        self._record.progress_at = at
        return [*done, Emit(changed), *self.entered(at)]

    def entered(self, at: float) -> list[Directive]:
        """What entering the present state asks for: its activity, its limits."""
        state = self.engine.state
        done: list[Directive] = []
        if self._table.spec(state).activity:
            done.append(StartActivity(state, self._record.attempt))
        limits = self.limits(state)
        times = [("stall", limits.stall), ("cap", limits.cap)]
        if state is MachineState.STOPPING:
            times.append(("stop", self._stop_budget))
        for what, seconds in times:
            if seconds is not None:
                up = stimuli.TimeUp(what=what, state=state, entered=at)
                done.append(WakeAt(at + seconds, up))
        return done

    def limits(self, state: MachineState) -> Limits:
        """The limits in force: set ones, else the table's."""
        spec = self._table.spec(state)
        own = self._limits.get(state, Limits())
        return Limits(
            stall=spec.stall if own.stall is None else own.stall,
            cap=spec.cap if own.cap is None else own.cap,
        )

    def move_if_allowed(self, stimulus: stimuli.Stimulus) -> list[Directive]:
        """Fire the trigger of a fact if the state answers it; note the fact otherwise."""
        if stimulus.trigger in self.engine.allowed():
            return self.move(stimulus)
        self.note(stimulus, "counted")
        return []

    def ignore(self, stimulus: stimuli.Stimulus, why: str) -> tuple[Directive, ...]:
        """Write into the story that a fact means nothing, and why."""
        self.note(stimulus, f"ignored: {why}")
        return ()

    def take(self, stimulus: stimuli.Stimulus) -> tuple[Directive, ...]:
        """Write a fact into the story from which nothing follows."""
        self.note(stimulus, "")
        return ()

    def note(self, stimulus: stimuli.Stimulus, told: str) -> None:
        """Write a fact into the story."""
        self._tell(stimulus.at, stimulus.words, told)

    def _tell(self, at: float, words: str, told: str) -> None:
        entry = StoryEntry(at=at, attempt=self._record.attempt, fact=words, change=told)
        self._record.story.append(entry)
