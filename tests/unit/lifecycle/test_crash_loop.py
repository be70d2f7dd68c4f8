"""Lives that fail one after another hold the next one back."""

from __future__ import annotations

import attrs
from hypothesis import given
from hypothesis import strategies as st

from machine_lifecycle.lifecycle.crash_loop import PastLives, wait_before

PASTS = st.builds(
    PastLives,
    failures=st.integers(0, 10**6),
    cause=st.text(max_size=5),
    digest=st.sampled_from("ab"),
    open=st.booleans(),
)


@given(PASTS, st.floats(0, 1e6))
def test_no_wait_is_longer_than_asked_and_more_failures_never_shorten_it(
    past: PastLives, longest: float
) -> None:
    wait = wait_before(past, longest)
    assert 0 <= wait <= longest
    assert wait <= wait_before(past.failed("again"), longest)


def test_the_first_two_failures_cost_nothing_then_the_wait_doubles() -> None:
    waits = [wait_before(PastLives(failures=number), 300) for number in range(11)]
    assert waits == [0, 0, 0, 5, 10, 20, 40, 80, 160, 300, 300]


@given(PASTS)
def test_another_configuration_begins_anew(past: PastLives) -> None:
    assert past.begun("c") == PastLives(digest="c", open=True)


@given(PASTS)
def test_a_life_whose_end_nobody_saw_failed(past: PastLives) -> None:
    begun = past.begun(past.digest)
    assert begun.open
    assert begun.failures == past.failures + (1 if past.open else 0)
    assert ("without a word" in begun.cause) or not past.open


@given(PASTS)
def test_to_stop_before_it_was_ready_neither_counts_nor_heals(past: PastLives) -> None:
    ended = past.ended(well=False, cause="")
    assert ended == attrs.evolve(past, open=False)


@given(PASTS)
def test_to_stop_a_machine_that_is_ready_heals_and_so_does_uptime(past: PastLives) -> None:
    assert past.ended(well=True, cause="") == PastLives(digest=past.digest)
    assert past.healed() == PastLives(digest=past.digest, open=past.open)


@given(PASTS)
def test_a_life_that_gave_up_counts_with_its_cause(past: PastLives) -> None:
    ended = past.ended(well=False, cause="port 8188 is taken")
    assert (ended.failures, ended.open) == (past.failures + 1, False)
    assert ended.cause == "port 8188 is taken"
