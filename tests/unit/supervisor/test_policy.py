"""The restart decision, over all histories."""

from __future__ import annotations

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from machine_lifecycle.model.processes import ExitCause, RestartPolicy, RestartWhen
from machine_lifecycle.supervisor.policy import (
    GiveUp,
    History,
    Rest,
    Wait,
    decide,
    never_ready,
    record,
    settled,
)

fractions = st.floats(0, 1)
seconds = st.floats(0, 1e6)
policies = st.builds(
    RestartPolicy,
    when=st.just(RestartWhen.ALWAYS),
    backoff=st.floats(0, 100),
    backoff_max=st.floats(0, 1000),
    jitter=fractions,
    min_uptime=seconds,
    budget=st.integers(0, 50),
    window=st.floats(1, 1e5),
)


@given(policy=policies, streak=st.integers(0, 10_000), fraction=fractions, failed=st.booleans())
def test_waits_are_bounded(
    *, policy: RestartPolicy, streak: int, fraction: float, failed: bool
) -> None:
    verdict = decide(policy, History((), streak), failed=failed, now=0, fraction=fraction)
    if policy.budget == 0:
        assert isinstance(verdict, GiveUp)
    else:
        assert isinstance(verdict, Wait)
        assert 0 <= verdict.seconds <= policy.backoff_max


@given(policies, st.lists(st.floats(0, 100), min_size=1, max_size=200), fractions)
def test_no_more_than_the_budget_within_any_window(
    policy: RestartPolicy, gaps: list[float], fraction: float
) -> None:
    history, now, starts = History(), 0.0, list[float]()
    for gap in gaps:
        now += gap
        if isinstance(decide(policy, history, failed=True, now=now, fraction=fraction), GiveUp):
            break
        history = record(policy, history, now)
        starts.append(now)
    for start in starts:
        assert sum(1 for time in starts if 0 <= time - start < policy.window) <= policy.budget


@given(policies, st.integers(0, 50), seconds)
def test_only_a_long_readiness_starts_the_count_anew(
    policy: RestartPolicy, streak: int, ready_for: float
) -> None:
    history = History((1.0,) * streak, streak)
    known = History() if ready_for >= policy.min_uptime else history
    expected = attrs.evolve(known, proved=True)
    assert settled(policy, history, ready_for) == expected


def test_waits_double() -> None:
    policy, history, waits = RestartPolicy(backoff=0.5, backoff_max=3, jitter=0), History(), []
    for now in range(5):
        verdict = decide(policy, history, failed=True, now=now, fraction=1)
        assert isinstance(verdict, Wait)
        waits.append(verdict.seconds)
        history = record(policy, history, now)
    assert waits == [0.5, 1, 2, 3, 3]


def test_when() -> None:
    def verdict(when: RestartWhen, *, failed: bool) -> object:
        policy = RestartPolicy(when=when)
        return type(decide(policy, History(), failed=failed, now=0, fraction=0))

    assert verdict(RestartWhen.NEVER, failed=False) is Rest
    assert verdict(RestartWhen.NEVER, failed=True) is GiveUp
    assert verdict(RestartWhen.ON_FAILURE, failed=False) is Rest
    assert verdict(RestartWhen.ON_FAILURE, failed=True) is Wait
    assert verdict(RestartWhen.ALWAYS, failed=False) is Wait


def ended(reason: str, *tail: str) -> ExitCause:
    return ExitCause(reason=reason, at=0, tail=tail)


BROKEN = ended("exit status 1", "Traceback", "ImportError: no torch (pid 17, 0x7f03)", "")
AGAIN = ended("exit status 1", "Traceback", "ImportError: no torch (pid 18, 0xaf03)", "")


@pytest.mark.parametrize(
    ("second", "verdict"),
    [
        (AGAIN, GiveUp),
        (ended("exit status 1", "ImportError: no numpy"), Wait),
        (ended("killed by SIGKILL", *BROKEN.tail), Wait),
    ],
)
def test_a_start_that_fails_by_itself_is_not_repeated(second: ExitCause, verdict: type) -> None:
    history = never_ready(History(), BROKEN)
    policy = RestartPolicy()
    assert isinstance(decide(policy, history, failed=True, now=0, fraction=0), Wait)
    history = never_ready(record(policy, history, 0), second)
    assert isinstance(decide(policy, history, failed=True, now=1, fraction=0), verdict)
    unlimited = attrs.evolve(policy, alike=0)
    assert isinstance(decide(unlimited, history, failed=True, now=1, fraction=0), Wait)


def test_what_was_ready_once_keeps_its_whole_budget() -> None:
    policy, history = RestartPolicy(), settled(RestartPolicy(), History(), 0.1)
    for _ in range(policy.budget):
        history = record(policy, never_ready(history, BROKEN), 0)
        verdict = decide(policy, attrs.evolve(history, times=()), failed=True, now=0, fraction=0)
        assert isinstance(verdict, Wait)
