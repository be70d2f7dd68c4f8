"""The lifecycle as a pure object: facts in, orders out; no loop, no clock."""

from __future__ import annotations

from typing import Any, ClassVar

import attrs
import pytest

from machine_lifecycle.errors import ConfigurationError, ExitCode, LifecycleError
from machine_lifecycle.lifecycle import events
from machine_lifecycle.lifecycle.core import Lifecycle
from machine_lifecycle.lifecycle.directives import (
    CancelActivity,
    Directive,
    Emit,
    Finish,
    ForceStop,
    StartActivity,
    WakeAt,
)
from machine_lifecycle.lifecycle.policy import BootPolicy, RetryIn
from machine_lifecycle.lifecycle.record import Limits
from machine_lifecycle.model.hardware import Hardware
from machine_lifecycle.model.plan import BootPlan
from machine_lifecycle.states import stimuli as st
from machine_lifecycle.states.names import MachineState as S
from machine_lifecycle.states.table import TABLE

PLAN = BootPlan(machine_id="m", hardware=Hardware())


@attrs.define(kw_only=True, slots=False, eq=False)
class Broken(LifecycleError):
    """Something broke."""

    code: ClassVar[str] = "test-broken"


@attrs.define(kw_only=True, slots=False, eq=False)
class Wrong(ConfigurationError):
    """Something is wrong."""

    code: ClassVar[str] = "test-wrong"


class Life:
    """A lifecycle, driven by hand, with a clock that only the test moves."""

    def __init__(self, **options: Any) -> None:
        policy = options.pop("policy", BootPolicy(attempts=3, backoff=5, backoff_max=12))
        self.core = Lifecycle(policy=policy, **options)
        self.now = 100.0
        self.last: tuple[Directive, ...] = ()
        self.say(st.Opened())

    def say(self, stimulus: st.Stimulus, after: float = 1.0) -> tuple[Directive, ...]:
        self.now += after
        self.last = self.core.handle(attrs.evolve(stimulus, at=self.now))
        return self.last

    def boot(self, until: S = S.READY) -> Life:
        a = self.core.attempt
        for fact in (
            st.PlanMade(attempt=a, plan=PLAN),
            st.BaseInstalled(attempt=a),
            st.NodesInstalled(attempt=a),
            st.ProcessesPrepared(attempt=a),
            st.ProcessesLaunched(attempt=a),
            st.ServicesOnline(attempt=a),
            st.WorkersConnected(attempt=a),
            st.MachineHealthy(attempt=a),
        ):
            if self.core.state is until:
                break
            self.say(fact)
        assert self.core.state is until
        return self

    def fail(self, error: LifecycleError | None = None) -> tuple[Directive, ...]:
        return self.say(st.Faulted(attempt=self.core.attempt, error=error or Broken()))

    def at(self, state: S) -> None:
        assert self.core.state is state

    def of(self, kind: type) -> list[Any]:
        return [d for d in self.last if isinstance(d, kind)]

    def told(self, kind: type) -> list[Any]:
        emitted = [d.event for d in self.last if isinstance(d, Emit)]
        return [event for event in emitted if isinstance(event, kind)]


def test_opening_starts_the_first_activity_and_its_limits() -> None:
    life = Life()
    assert life.last[0] == StartActivity(S.STARTING, 1)
    assert {wake.stimulus.what for wake in life.of(WakeAt)} == {"stall", "cap"}


def test_each_fact_starts_the_next_activity() -> None:
    life = Life()
    life.say(st.PlanMade(attempt=1, plan=PLAN))
    assert life.of(StartActivity) == [StartActivity(S.INSTALLING, 1)]
    assert life.core.record.plan is PLAN
    (changed,) = life.told(events.Changed)
    assert (changed.source, changed.target, changed.seconds) == (S.STARTING, S.INSTALLING, 1.0)


def test_ready_tells_how_long_each_state_took() -> None:
    life = Life().boot()
    (ready,) = life.told(events.MachineReady)
    assert ready.seconds == 8.0
    assert [timing.state for timing in ready.timings][:2] == ["starting", "installing"]
    assert all(timing.seconds == 1.0 for timing in ready.timings[:-1])
    assert life.of(StartActivity) == []


def test_a_fault_cancels_the_activity_and_waits_before_the_next_attempt() -> None:
    life = Life().boot(S.INSTALLING)
    life.fail()
    assert life.last[0] == CancelActivity()
    life.at(S.FAILED)
    (wake,) = life.of(WakeAt)
    assert wake == WakeAt(life.now + 5, st.RetryDue(attempt=1))
    (failed,) = life.told(events.MachineFailed)
    assert (failed.retry_in, failed.error["code"], failed.error["where"]) == (
        5,
        "test-broken",
        "installing",
    )


def test_backoff_doubles_up_to_its_maximum_and_the_budget_ends_it() -> None:
    life = Life()
    waits = []
    for _ in range(3):
        life.fail()
        waits += [event.retry_in for event in life.told(events.MachineFailed)]
        if life.core.state is S.FAILED:
            life.say(st.RetryDue(attempt=life.core.attempt))
            life.say(st.CleanedUp(attempt=life.core.attempt))
    assert waits == [5, 10, None]
    life.at(S.STOPPING)
    life.say(st.AllStopped())
    assert life.of(Finish) == [Finish(ExitCode.BOOT_FAILED)]


def test_the_longest_backoff_holds() -> None:
    policy = BootPolicy(attempts=9, backoff=5, backoff_max=12)
    assert [policy.decide(n, Broken()) for n in (1, 2, 3, 4)] == [
        RetryIn(5),
        RetryIn(10),
        RetryIn(12),
        RetryIn(12),
    ]


def test_what_cannot_heal_is_not_tried_again() -> None:
    life = Life()
    life.fail(Wrong())
    life.at(S.STOPPING)
    life.say(st.AllStopped())
    assert life.of(Finish) == [Finish(ExitCode.CONFIGURATION)]


def test_stay_keeps_the_failed_machine_up_until_told_to_stop() -> None:
    life = Life(stay=True)
    life.fail(Wrong())
    life.at(S.FAILED)
    assert life.of(WakeAt) == []
    life.say(st.StopRequested(reason="SIGTERM", signal="SIGTERM"))
    life.say(st.AllStopped())
    assert life.of(Finish) == [Finish(ExitCode.CONFIGURATION)]


def test_restarting_begins_a_new_attempt() -> None:
    life = Life().boot(S.LAUNCHING)
    life.fail()
    life.say(st.RetryDue(attempt=1))
    assert life.of(StartActivity) == [StartActivity(S.RESTARTING, 1)]
    life.say(st.CleanedUp(attempt=1))
    assert life.of(StartActivity) == [StartActivity(S.STARTING, 2)]
    assert life.core.attempt == 2


def test_a_stale_fact_is_recorded_and_moves_nothing() -> None:
    life = Life().boot(S.INSTALLING)
    life.fail()
    life.say(st.RetryDue(attempt=1))
    life.say(st.CleanedUp(attempt=1))
    assert life.say(st.PlanMade(attempt=1, plan=PLAN)) == ()
    life.at(S.STARTING)
    assert "attempt 1" in life.core.record.story[-1].change


def test_a_fact_out_of_place_is_recorded_and_moves_nothing() -> None:
    life = Life()
    assert life.say(st.MachineHealthy(attempt=1)) == ()
    life.at(S.STARTING)
    assert life.say(st.RetryDue(attempt=1)) == ()


def test_a_long_good_time_heals_the_budget() -> None:
    life = Life(policy=BootPolicy(attempts=2, heal_after=600)).boot()
    life.fail()
    life.say(st.RetryDue(attempt=1))
    life.say(st.CleanedUp(attempt=1))
    life.boot()
    life.say(st.Progressed(attempt=2), after=700)
    life.fail()
    life.at(S.FAILED)
    assert life.told(events.MachineFailed)[0].retry_in == 5


def test_a_short_good_time_does_not() -> None:
    life = Life(policy=BootPolicy(attempts=2, heal_after=600)).boot()
    life.fail()
    life.say(st.RetryDue(attempt=1))
    life.say(st.CleanedUp(attempt=1))
    life.boot()
    life.fail()
    life.at(S.STOPPING)


def test_jobs_move_between_ready_and_processing() -> None:
    life = Life().boot()
    life.say(st.JobTaken(job_id="a", worker_id="w0"))
    life.say(st.JobTaken(job_id="b", worker_id="w1"))
    life.at(S.PROCESSING)
    life.say(st.JobDone(job_id="a", worker_id="w0", outcome="completed"))
    life.at(S.PROCESSING)
    life.say(st.JobDone(job_id="b", worker_id="w1", outcome="failed"))
    life.at(S.READY)
    assert life.core.record.outcomes == {"completed": 1, "failed": 1}


def test_a_job_told_twice_counts_once_and_only_its_worker_ends_it() -> None:
    life = Life().boot()
    life.say(st.JobTaken(job_id="a", worker_id="w0"))
    assert life.say(st.JobTaken(job_id="a", worker_id="w0")) == ()
    life.say(st.JobDone(job_id="a", worker_id="w9", outcome="completed"))
    life.at(S.PROCESSING)
    life.say(st.JobDone(job_id="a", worker_id="w0", outcome="completed"))
    assert life.say(st.JobDone(job_id="a", worker_id="w0", outcome="completed")) == ()
    assert life.core.record.outcomes == {"completed": 1}


def test_a_job_that_another_worker_has_before_the_first_tells_that_it_let_go() -> None:
    """Redis hands it on at once; what the two workers say comes over two sockets."""
    life = Life().boot()
    life.say(st.JobTaken(job_id="a", worker_id="w0"))
    life.say(st.JobTaken(job_id="a", worker_id="w1"))
    assert [event.worker_id for event in life.told(events.JobStarted)] == ["w1"]
    life.say(st.JobDone(job_id="a", worker_id="w0", outcome="released"))
    life.at(S.PROCESSING)
    life.say(st.JobDone(job_id="a", worker_id="w1", outcome="completed"))
    life.at(S.READY)
    assert life.core.record.outcomes == {"released": 1, "completed": 1}


def test_any_number_of_jobs_leaves_the_times_of_the_boot_to_be_seen() -> None:
    life = Life().boot()
    for number in range(500):
        life.say(st.JobTaken(job_id=f"j{number}", worker_id="w0"), after=2.0)
        life.say(st.JobDone(job_id=f"j{number}", worker_id="w0", outcome="completed"), after=3.0)
    timings = life.core.record.timings(TABLE)
    assert [timing.state for timing in timings[:3]] == ["starting", "installing", "custom_nodes"]
    told = [(timing.state, timing.seconds) for timing in timings[8:]]
    assert told == [("ready", 1000.0), ("processing", 1500.0), ("ready", None)]


def test_jobs_of_adopted_workers_count_before_ready() -> None:
    life = Life().boot(S.SERVICES_STARTING)
    life.say(st.JobTaken(job_id="a", worker_id="w0"))
    life.at(S.SERVICES_STARTING)
    life.say(st.ServicesOnline(attempt=1))
    life.say(st.WorkersConnected(attempt=1))
    life.say(st.MachineHealthy(attempt=1))
    life.at(S.PROCESSING)
    assert len(life.told(events.MachineReady)) == 1


@pytest.mark.parametrize("state", [S.STARTING, S.CUSTOM_NODES, S.HEALTH_CHECK, S.READY])
def test_a_stop_cancels_what_happens_and_starts_stopping(state: S) -> None:
    life = Life().boot(state)
    life.say(st.StopRequested(reason="SIGTERM", signal="SIGTERM"))
    assert life.last[0] == CancelActivity()
    assert life.of(StartActivity) == [StartActivity(S.STOPPING, 1)]
    assert [wake.stimulus.what for wake in life.of(WakeAt)] == ["stop"]
    life.say(st.AllStopped())
    assert life.of(Finish) == [Finish(ExitCode.OK)]


@pytest.mark.parametrize(("signal", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("", 0)])
def test_the_second_stop_forces(signal: str, code: int) -> None:
    life = Life().boot()
    life.say(st.StopRequested(reason="first"))
    assert life.say(st.StopRequested(reason="second", signal=signal)) == (ForceStop(),)
    life.say(st.AllStopped())
    assert life.of(Finish) == [Finish(code)]


def test_giving_up_is_not_a_first_stop() -> None:
    life = Life()
    life.fail(Wrong())
    assert life.say(st.StopRequested(reason="SIGTERM", signal="SIGTERM")) == ()
    assert life.say(st.StopRequested(reason="SIGTERM", signal="SIGTERM")) == (ForceStop(),)


def test_a_stop_that_takes_too_long_or_faults_is_forced() -> None:
    life = Life(stop_budget=10)
    life.say(st.StopRequested(reason="x"))
    (wake,) = life.of(WakeAt)
    assert wake.at == life.now + 10
    assert life.say(wake.stimulus) == (ForceStop(),)
    life = Life()
    life.say(st.StopRequested(reason="x"))
    fault = st.Faulted(attempt=1, error=Broken(), during=S.STOPPING)
    assert life.say(fault) == (ForceStop(),)
    assert len(life.core.record.later_failures) == 1


def test_the_first_failure_is_kept_and_later_ones_stand_beside_it() -> None:
    life = Life()
    first, second = Broken(), Broken()
    life.fail(first)
    life.fail(second)
    assert life.core.record.failure is first
    assert life.core.record.later_failures == (second,)
    life.at(S.FAILED)


def test_progress_postpones_the_stall_and_silence_ends_in_a_fault() -> None:
    life = Life(limits={S.STARTING: Limits(stall=10, cap=100)})
    stall = next(wake for wake in life.of(WakeAt) if wake.stimulus.what == "stall")
    life.say(st.Progressed(attempt=1), after=8)
    again = life.say(stall.stimulus, after=2)
    assert again == (WakeAt(life.now + 8, attrs.evolve(stall.stimulus, at=0.0)),)
    life.say(attrs.evolve(stall.stimulus, waiting=("a port",)), after=8)
    life.at(S.FAILED)
    assert life.core.record.failure is not None
    assert life.core.record.failure.code == "state-stalled"
    assert "a port" in str(life.core.record.failure)


def test_progress_of_an_older_attempt_is_none() -> None:
    life = Life(limits={S.STARTING: Limits(stall=10)})
    life.say(st.Progressed(attempt=7), after=8)
    assert life.core.record.progress_at == life.now - 8


def test_the_cap_holds_whatever_moves() -> None:
    life = Life(limits={S.STARTING: Limits(cap=20)})
    cap = next(wake for wake in life.of(WakeAt) if wake.stimulus.what == "cap")
    life.say(st.Progressed(attempt=1), after=19)
    life.say(cap.stimulus, after=1)
    assert life.core.record.failure is not None
    assert life.core.record.failure.code == "state-too-long"


def test_a_limit_of_an_earlier_visit_means_nothing() -> None:
    life = Life()
    old = life.of(WakeAt)
    life.boot(S.INSTALLING)
    assert all(life.say(wake.stimulus) == () for wake in old)
    life.at(S.INSTALLING)


def test_conditions_are_told_when_they_change_only() -> None:
    life = Life()
    life.say(st.ConditionRaised(kind="degraded", reason="one GPU is out"))
    assert life.told(events.ConditionChanged)[0].holds
    assert life.say(st.ConditionRaised(kind="degraded", reason="one GPU is out")) == ()
    life.say(st.ConditionRaised(kind="degraded", reason="two GPUs are out"))
    assert life.core.record.conditions["degraded"] == ("two GPUs are out", life.now - 2)
    life.say(st.ConditionCleared(kind="degraded"))
    assert not life.told(events.ConditionChanged)[0].holds
    assert life.say(st.ConditionCleared(kind="degraded")) == ()


def test_nothing_happens_after_the_end() -> None:
    life = Life()
    life.say(st.StopRequested(reason="x"))
    life.say(st.AllStopped())
    assert life.core.finished
    assert life.say(st.StopRequested(reason="y")) == ()
    assert life.fail() == ()
