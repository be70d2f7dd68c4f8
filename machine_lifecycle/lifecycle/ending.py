"""How attempts and lives end: faults, the wait for another attempt, giving up, stops."""

from __future__ import annotations

from machine_lifecycle.errors import ExitCode
from machine_lifecycle.lifecycle import events
from machine_lifecycle.lifecycle.directives import Directive, Emit, Finish, ForceStop, WakeAt
from machine_lifecycle.lifecycle.policy import BootPolicy, GiveUp
from machine_lifecycle.lifecycle.record import Record
from machine_lifecycle.lifecycle.stepper import Stepper
from machine_lifecycle.states import stimuli
from machine_lifecycle.states.names import MachineState, Trigger

__all__ = ["Ending"]

_FORCED = {"SIGINT": ExitCode.FORCED_BY_SIGINT, "SIGTERM": ExitCode.FORCED_BY_SIGTERM}
_STOPS_THAT_FORCE = 2
"""The first request to stop lets jobs end; this one ends everything at once."""


class Ending:
    """Counts failures and stops of one machine, and says what follows from them."""

    def __init__(self, *, record: Record, steps: Stepper, policy: BootPolicy, stay: bool) -> None:
        self._record = record
        self._steps = steps
        self._policy = policy
        self._stay = stay
        self._stops = 0
        self._forced: int | None = None
        self._gave_up = False

    def faulted(self, stimulus: stimuli.Faulted) -> tuple[Directive, ...]:
        """Fail, and decide on another attempt; in Failed and Stopping it is only recorded."""
        error = stimulus.error
        error.where = error.where or (stimulus.during or self._steps.state).value
        if self._steps.state in (MachineState.FAILED, MachineState.STOPPING):
            self._record.later_failures += (error,)
            done = self._steps.move(stimulus)
            if (
                self._steps.state is MachineState.STOPPING
                and stimulus.during is MachineState.STOPPING
            ):
                done.append(ForceStop())
            return tuple(done)
        self._count_failure(stimulus.at)
        self._record.failure = error
        done = self._steps.move(stimulus)
        verdict = self._policy.decide(self._record.failures, error)
        retry_in = None if isinstance(verdict, GiveUp) else verdict.seconds
        failed = events.MachineFailed(
            attempt=self._record.attempt, error=error.to_wire(), retry_in=retry_in
        )
        done.append(Emit(failed))
        if retry_in is not None:
            due = stimuli.RetryDue(attempt=self._record.attempt)
            self._record.retry_at = stimulus.at + retry_in
            done.append(WakeAt(self._record.retry_at, due))
            return tuple(done)
        self._gave_up = True
        if not self._stay:
            reason = verdict.reason if isinstance(verdict, GiveUp) else ""
            done += self._steps.fire(Trigger.GAVE_UP, stimulus.at, reason)
        return tuple(done)

    def _count_failure(self, at: float) -> None:
        ready = self._steps.state in (MachineState.READY, MachineState.PROCESSING)
        if ready and at - self._record.ready_at >= self._policy.heal_after:
            self._record.failures = 0
        self._record.failures += 1

    def stop_requested(self, stimulus: stimuli.StopRequested) -> tuple[Directive, ...]:
        """Stop; the second request forces."""
        self._stops += 1
        done = self._steps.move(stimulus)
        if self._stops >= _STOPS_THAT_FORCE:
            self._forced = _FORCED.get(stimulus.signal, self._forced)
            done.append(ForceStop())
        return tuple(done)

    def all_stopped(self, stimulus: stimuli.AllStopped) -> tuple[Directive, ...]:
        """End the life, with the exit code that tells how it went."""
        done = self._steps.move(stimulus)
        code = self._exit_code()
        reason = self._record.failure.summary if self._record.failure and self._gave_up else ""
        stopped = events.MachineStopped(attempt=self._record.attempt, exit_code=code, reason=reason)
        return (*done, Emit(stopped), Finish(code))

    def _exit_code(self) -> int:
        if self._forced is not None:
            return self._forced
        if self._gave_up and self._record.failure:
            return self._record.failure.exit_code
        return ExitCode.OK
