"""Facts that any state takes in: jobs taken and done, conditions raised and cleared."""

from __future__ import annotations

from machine_lifecycle.lifecycle import events
from machine_lifecycle.lifecycle.directives import Directive, Emit
from machine_lifecycle.lifecycle.record import Record
from machine_lifecycle.lifecycle.stepper import Stepper
from machine_lifecycle.states import stimuli

__all__ = ["condition", "job_done", "job_taken"]


def job_taken(record: Record, steps: Stepper, stimulus: stimuli.JobTaken) -> tuple[Directive, ...]:
    """A worker took a job: counted in every state, told once."""
    if (stimulus.job_id, stimulus.worker_id) in record.jobs:
        return steps.ignore(stimulus, "known already")
    record.jobs.add((stimulus.job_id, stimulus.worker_id))
    started = events.JobStarted(
        attempt=record.attempt, job_id=stimulus.job_id, worker_id=stimulus.worker_id
    )
    return (*steps.move_if_allowed(stimulus), Emit(started))


def job_done(record: Record, steps: Stepper, stimulus: stimuli.JobDone) -> tuple[Directive, ...]:
    """A worker is done with a job that it had."""
    if (stimulus.job_id, stimulus.worker_id) not in record.jobs:
        return steps.ignore(stimulus, "not a job of that worker")
    record.jobs.remove((stimulus.job_id, stimulus.worker_id))
    record.outcomes[stimulus.outcome] = record.outcomes.get(stimulus.outcome, 0) + 1
    finished = events.JobFinished(
        attempt=record.attempt,
        job_id=stimulus.job_id,
        worker_id=stimulus.worker_id,
        outcome=stimulus.outcome,
    )
    return (Emit(finished), *steps.move_if_allowed(stimulus))


def condition(
    record: Record,
    steps: Stepper,
    stimulus: stimuli.ConditionRaised | stimuli.ConditionCleared,
) -> tuple[Directive, ...]:
    """A condition holds now, or no longer; told only if that is new."""
    if isinstance(stimulus, stimuli.ConditionRaised):
        reason, holds = stimulus.reason, True
        known = record.conditions.get(stimulus.kind)
        if known and known[0] == reason:
            return ()
        since = known[1] if known else stimulus.at
        record.conditions[stimulus.kind] = (reason, since)
    else:
        reason, holds = "", False
        if record.conditions.pop(stimulus.kind, None) is None:
            return ()
    steps.note(stimulus, "")
    return (
        Emit(
            events.ConditionChanged(
                attempt=record.attempt, condition=stimulus.kind, holds=holds, reason=reason
            )
        ),
    )
