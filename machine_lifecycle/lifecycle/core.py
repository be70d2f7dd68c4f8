"""The lifecycle decides: facts in, orders out.

Pure: no await, no clock, no I/O. Every fact carries the time at which it was taken in. The runner
(``runner.py``) is its only caller and carries out what it answers.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from machine_lifecycle.errors import LifecycleError
from machine_lifecycle.lifecycle import events, facts
from machine_lifecycle.lifecycle.directives import Directive, Emit, ForceStop, WakeAt
from machine_lifecycle.lifecycle.ending import Ending
from machine_lifecycle.lifecycle.policy import BootPolicy
from machine_lifecycle.lifecycle.record import Limits, Record, Visit
from machine_lifecycle.lifecycle.stepper import Stepper
from machine_lifecycle.model.plan import BootPlan
from machine_lifecycle.states import stimuli
from machine_lifecycle.states.errors import StateStalled, StateTooLong
from machine_lifecycle.states.names import MachineState, Trigger
from machine_lifecycle.states.table import TABLE, Table

__all__ = ["Lifecycle"]


class Lifecycle:
    """One machine's life: its state, what it knows, and what should happen next."""

    def __init__(
        self,
        *,
        policy: BootPolicy,
        limits: Mapping[MachineState, Limits] | None = None,
        stop_budget: float = 10.0,
        stay: bool = False,
        table: Table = TABLE,
    ) -> None:
        """Begin in the table's initial state.

        Args:
            policy: When a failed machine boots again.
            limits: Stall limits and caps that replace the table's.
            stop_budget: Seconds a stop may take before everything left is killed.
            stay: Remain in Failed when no attempt is left, instead of stopping.
            table: States and rows; another one only in tests.
        """
        self._table = table
        self.record: Record = Record()
        self._steps = Stepper(
            record=self.record,
            table=table,
            limits=limits or {},
            stop_budget=stop_budget,
            attempts_left=lambda: policy.left(self.record.failures),
        )
        self._ending = Ending(record=self.record, steps=self._steps, policy=policy, stay=stay)

    @property
    def state(self) -> MachineState:
        """Where the machine is."""
        return self._steps.engine.state

    @property
    def attempt(self) -> int:
        """Boot attempt, from 1."""
        return self.record.attempt

    @property
    def finished(self) -> bool:
        """Whether the life is over."""
        return self._steps.engine.final

    def allowed(self) -> tuple[Trigger, ...]:
        """Triggers that the present state answers."""
        return self._steps.engine.allowed()

    def handle(  # noqa: PLR0911 - one return per kind of fact
        self, stimulus: stimuli.Stimulus
    ) -> tuple[Directive, ...]:
        """Take in one fact; what is to be done about it, in order.

        A fact of an older attempt, and one that the state has no answer for, is written into the
        story and moves nothing.
        """
        if isinstance(stimulus, stimuli.Progressed):
            if stimulus.attempt == self.attempt:
                self.record.progress_at = stimulus.at
            return ()
        if self.finished:
            return self._steps.ignore(stimulus, "the life is over")
        if stimulus.attempt is not None and stimulus.attempt != self.attempt:
            return self._steps.ignore(stimulus, f"belongs to attempt {stimulus.attempt}")
        in_any_state = self._in_any_state(stimulus)
        if in_any_state is not None:
            return in_any_state
        if stimulus.trigger not in self.allowed():
            return self._steps.ignore(stimulus, f"means nothing in {self.state.value}")
        match stimulus:
            case stimuli.Faulted():
                return self._ending.faulted(stimulus)
            case stimuli.StopRequested():
                return self._ending.stop_requested(stimulus)
            case stimuli.AllStopped():
                return self._ending.all_stopped(stimulus)
            case _:
                return self._boot_fact(stimulus)

    def _in_any_state(self, stimulus: stimuli.Stimulus) -> tuple[Directive, ...] | None:
        match stimulus:
            case stimuli.Opened():
                return self._opened(stimulus)
            case stimuli.TimeUp():
                return self._time_up(stimulus)
            case stimuli.ConditionRaised() | stimuli.ConditionCleared():
                return facts.condition(self.record, self._steps, stimulus)
            case stimuli.PlanReplaced(plan=plan):
                self.record.plan = plan
                return self._steps.take(stimulus)
            case stimuli.JobTaken() | stimuli.JobDone():
                return self._of_jobs(stimulus)
            case _:
                return None

    def _of_jobs(self, stimulus: stimuli.JobTaken | stimuli.JobDone) -> tuple[Directive, ...]:
        if isinstance(stimulus, stimuli.JobTaken):
            return facts.job_taken(self.record, self._steps, stimulus)
        return facts.job_done(self.record, self._steps, stimulus)

    # Facts of a boot that goes well

    def _opened(self, stimulus: stimuli.Opened) -> tuple[Directive, ...]:
        self._steps.note(stimulus, "")
        self.record.visits.append(Visit(state=self.state, attempt=1, entered=stimulus.at))
        self.record.boot_began = stimulus.at
        self.record.progress_at = stimulus.at
        return tuple(self._steps.entered(stimulus.at))

    def _boot_fact(self, stimulus: stimuli.Stimulus) -> tuple[Directive, ...]:
        match stimulus:
            case stimuli.PlanMade(plan=plan):
                self.record.plan = plan
            case stimuli.ProcessesPrepared(plan=BootPlan() as plan):
                self.record.plan = plan
            case stimuli.MachineHealthy(checks=checks):
                self.record.checks = checks
            case stimuli.CleanedUp():
                self.record.attempt += 1
                self.record.boot_began = stimulus.at
        done = self._steps.move(stimulus)
        if isinstance(stimulus, stimuli.MachineHealthy):
            done += self._ready(stimulus)
        return tuple(done)

    def _ready(self, stimulus: stimuli.MachineHealthy) -> list[Directive]:
        at = stimulus.at
        self.record.failure = None
        self.record.later_failures = ()
        self.record.ready_at = at
        ready = events.MachineReady(
            attempt=self.attempt,
            seconds=at - self.record.boot_began,
            timings=self.record.timings(self._table, attempt=self.attempt),
        )
        done: list[Directive] = [Emit(ready)]
        if self.record.jobs:  # adopted workers were at work before the machine was ready
            done += self._steps.fire(Trigger.JOB_TAKEN, at, "jobs were running already")
        return done

    # Time

    def _time_up(self, stimulus: stimuli.TimeUp) -> tuple[Directive, ...]:
        if stimulus.state is not self.state or stimulus.entered != self.record.entered:
            return ()
        limits = self._steps.limits(self.state)
        if stimulus.what == "stop":
            self._steps.note(stimulus, "what is left is killed")
            return (ForceStop(),)
        error: LifecycleError
        if stimulus.what == "stall" and limits.stall is not None:
            due = self.record.progress_at + limits.stall
            if stimulus.at < due:
                return (WakeAt(due, attrs.evolve(stimulus, at=0.0)),)
            error = StateStalled(
                state=self.state.value, seconds=limits.stall, waiting=stimulus.waiting
            )
        else:
            error = StateTooLong(
                state=self.state.value, seconds=limits.cap or 0.0, waiting=stimulus.waiting
            )
        return self._ending.faulted(
            stimuli.Faulted(attempt=self.attempt, at=stimulus.at, error=error, during=self.state)
        )
