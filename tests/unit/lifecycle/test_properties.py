"""Random lives: the lifecycle drives a model of processes and workers, and invariants hold."""

from __future__ import annotations

from typing import ClassVar

import attrs
from hypothesis import settings
from hypothesis import strategies as some
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from machine_lifecycle.errors import ConfigurationError, LifecycleError
from machine_lifecycle.lifecycle import events
from machine_lifecycle.lifecycle.core import Lifecycle
from machine_lifecycle.lifecycle.directives import (
    CancelActivity,
    Emit,
    Finish,
    ForceStop,
    StartActivity,
    WakeAt,
)
from machine_lifecycle.lifecycle.policy import BootPolicy
from machine_lifecycle.model.hardware import Hardware
from machine_lifecycle.model.plan import BootPlan
from machine_lifecycle.states import stimuli as st
from machine_lifecycle.states.names import MachineState as S

PLAN = BootPlan(machine_id="m", hardware=Hardware())
WORKERS = ("w0", "w1")
BOOT_ORDER = [
    S.STARTING,
    S.INSTALLING,
    S.CUSTOM_NODES,
    S.PM_GENERATION,
    S.LAUNCHING,
    S.SERVICES_STARTING,
    S.WORKERS_STARTING,
    S.HEALTH_CHECK,
    S.READY,
]


@attrs.define(kw_only=True, slots=False, eq=False)
class Curable(LifecycleError):
    """It may go better next time."""

    code: ClassVar[str] = "test-curable"


@attrs.define(kw_only=True, slots=False, eq=False)
class Hopeless(ConfigurationError):
    """It will not."""

    code: ClassVar[str] = "test-hopeless"


@attrs.define
class Model:
    """What really runs, as far as the activities have got."""

    planned: bool = False
    services: set[str] = attrs.field(factory=set)
    workers: set[str] = attrs.field(factory=set)
    connected: set[str] = attrs.field(factory=set)
    jobs: set[tuple[str, str]] = attrs.field(factory=set)

    def end_all(self) -> None:
        self.services.clear()
        self.workers.clear()
        self.connected.clear()


class Lives(RuleBasedStateMachine):
    """Any order of activities ending well or badly, jobs, deaths, stops, stale and late facts."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.model = Model()
        self.activity: StartActivity | None = None
        self.old: list[st.Stimulus] = []
        self.retry: WakeAt | None = None
        self.moves: list[tuple[S, S]] = []
        self.attempts: list[int] = [1]
        self.finished: int | None = None
        self.given_up = False
        self.stops = 0
        self.number = 0
        self.life = Lifecycle(policy=BootPolicy(attempts=3, backoff=1, backoff_max=4))
        self.say(st.Opened())

    def say(self, stimulus: st.Stimulus) -> None:
        self.now += 1.0
        before = self.life.state
        for directive in self.life.handle(attrs.evolve(stimulus, at=self.now)):
            match directive:
                case StartActivity():
                    assert directive.state is self.life.state or before is not self.life.state
                    self.activity = directive
                case CancelActivity():
                    self.activity = None
                case WakeAt(stimulus=st.RetryDue()):
                    self.retry = directive
                case Emit(event=events.Changed(source=source, target=target)):
                    self.moves.append((source, target))
                case ForceStop():
                    self.model.end_all()
                    self.activity = None
                    self.say(st.AllStopped())
                case Finish(exit_code=code):
                    self.finished = code

    # Activities end well: the model does what the state is for

    @precondition(lambda self: self.activity is not None)
    @rule()
    def activity_ends_well(self) -> None:
        assert self.activity is not None
        state, attempt = self.activity.state, self.activity.attempt
        self.activity = None
        fact: st.Stimulus
        match state:
            case S.STARTING:
                self.model.planned = True
                fact = st.PlanMade(attempt=attempt, plan=PLAN)
            case S.INSTALLING:
                fact = st.BaseInstalled(attempt=attempt)
            case S.CUSTOM_NODES:
                fact = st.NodesInstalled(attempt=attempt)
            case S.PM_GENERATION:
                fact = st.ProcessesPrepared(attempt=attempt)
            case S.LAUNCHING:
                self.model.workers.update(WORKERS)
                fact = st.ProcessesLaunched(attempt=attempt)
            case S.SERVICES_STARTING:
                self.model.services.update(("s0", "s1"))
                fact = st.ServicesOnline(attempt=attempt)
            case S.WORKERS_STARTING:
                self.model.connected.update(WORKERS)
                fact = st.WorkersConnected(attempt=attempt)
            case S.HEALTH_CHECK:
                fact = st.MachineHealthy(attempt=attempt)
            case S.RESTARTING:
                self.model.end_all()
                self.drop_jobs()
                self.attempts.append(attempt + 1)
                fact = st.CleanedUp(attempt=attempt)
            case _:
                assert state is S.STOPPING
                self.model.end_all()
                self.drop_jobs()
                fact = st.AllStopped()
        self.old.append(fact)
        self.say(fact)

    def drop_jobs(self) -> None:
        for job, worker in sorted(self.model.jobs):
            self.model.jobs.remove((job, worker))
            self.say(st.JobDone(job_id=job, worker_id=worker, outcome="released"))

    @precondition(lambda self: self.activity is not None)
    @rule(hopeless=some.booleans())
    def activity_faults(self, hopeless: bool) -> None:  # noqa: FBT001 - drawn by hypothesis
        assert self.activity is not None
        state, attempt = self.activity.state, self.activity.attempt
        self.activity = None
        error = Hopeless() if hopeless else Curable()
        fact = st.Faulted(attempt=attempt, error=error, during=state)
        self.old.append(fact)
        self.say(fact)

    @precondition(lambda self: self.life.state in (S.READY, S.PROCESSING))
    @rule()
    def essential_service_dies_for_good(self) -> None:
        self.model.services.discard("s0")
        self.say(st.Faulted(attempt=self.life.attempt, error=Curable()))

    # Time and the world outside

    @precondition(lambda self: self.retry is not None)
    @rule()
    def retry_comes_due(self) -> None:
        assert self.retry is not None
        due, self.retry = self.retry, None
        self.say(due.stimulus)

    @precondition(lambda self: self.model.connected)
    @rule(data=some.data())
    def job_taken(self, data: some.DataObject) -> None:
        worker = data.draw(some.sampled_from(sorted(self.model.connected)))
        if all(worker != busy for _, busy in self.model.jobs):
            # One that another hands back may be here before the other has told.
            handed_on = sorted(job for job, _ in self.model.jobs)
            self.number += 1
            job = data.draw(some.sampled_from([f"j{self.number}", *handed_on]))
            self.model.jobs.add((job, worker))
            self.say(st.JobTaken(job_id=job, worker_id=worker))

    @precondition(lambda self: self.model.jobs)
    @rule(outcome=some.sampled_from(["completed", "failed"]), data=some.data())
    def job_done(self, outcome: str, data: some.DataObject) -> None:
        job, worker = data.draw(some.sampled_from(sorted(self.model.jobs)))
        self.model.jobs.remove((job, worker))
        self.say(st.JobDone(job_id=job, worker_id=worker, outcome=outcome))

    @rule()
    def stop_requested(self) -> None:
        self.stops += 1
        self.say(st.StopRequested(reason="drawn", signal="SIGTERM"))

    @precondition(lambda self: any(fact.attempt != self.life.attempt for fact in self.old))
    @rule(data=some.data())
    def stale_fact(self, data: some.DataObject) -> None:
        stale = [f for f in self.old if f.attempt is not None and f.attempt != self.life.attempt]
        if not stale:
            return
        before = (self.life.state, self.life.attempt, len(self.moves))
        self.say(data.draw(some.sampled_from(stale)))
        assert (self.life.state, self.life.attempt, len(self.moves)) == before

    # What always holds

    @invariant()
    def ready_means_every_essential_worker_is_connected(self) -> None:
        if self.life.state in (S.READY, S.PROCESSING):
            assert self.model.connected == set(WORKERS)
            assert self.model.planned

    @invariant()
    def processing_means_jobs_and_ready_means_none(self) -> None:
        if self.life.state is S.PROCESSING:
            assert self.model.jobs
        if self.life.state is S.READY:
            assert not self.model.jobs

    @invariant()
    def stopped_means_that_nothing_runs(self) -> None:
        if self.life.state is S.STOPPED:
            assert self.model.services | self.model.workers | self.model.connected == set()
            assert self.finished is not None
        else:
            assert self.finished is None

    @invariant()
    def boot_states_come_in_order(self) -> None:
        for source, target in self.moves:
            if target in BOOT_ORDER and source in BOOT_ORDER:
                assert BOOT_ORDER.index(target) == BOOT_ORDER.index(source) + 1
            if target is S.STARTING:
                assert source is S.RESTARTING
            if source is S.RESTARTING:
                assert target in (S.STARTING, S.FAILED, S.STOPPING)

    @invariant()
    def attempts_only_grow_and_stay_within_the_budget(self) -> None:
        assert self.life.attempt == self.attempts[-1]

    @invariant()
    def someone_is_always_at_work_or_waited_for(self) -> None:
        """No state in which nothing will ever happen: an activity, a timer, jobs or the world."""
        if self.life.state is S.FAILED:
            assert self.retry is not None
        if self.life.state in (*BOOT_ORDER[:-1], S.RESTARTING, S.STOPPING):
            assert self.activity is not None
            assert self.activity.state is self.life.state

    @invariant()
    def failed_keeps_its_cause(self) -> None:
        if self.life.state in (S.FAILED, S.RESTARTING):
            assert self.life.record.failure is not None


TestLives = Lives.TestCase
TestLives.settings = settings(max_examples=60, stateful_step_count=40)
