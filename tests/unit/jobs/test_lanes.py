"""Which of two calls takes which results."""

from __future__ import annotations

import pytest

from machine_lifecycle.jobs.lanes import Lanes
from machine_lifecycle.jobs.outcomes import Outcome
from machine_lifecycle.jobs.turns import Offer


def _outcomes(number: int) -> list[Outcome]:
    return [Outcome((f"job-{one}", 1, "{}", "{}", "", 1, "clock")) for one in range(number)]


def _offer(slots: int) -> Offer:
    return Offer("able", "{}", slots, whole=10)


@pytest.mark.parametrize(
    ("slots", "results", "given"), [(10, 10, 5), (10, 11, 6), (10, 9, 9), (9, 10, 10), (5, 10, 10)]
)
def test_half_of_the_results_is_left_where_it_is_worth_a_second_call(
    slots: int, results: int, given: int
) -> None:
    lanes, outcomes = Lanes(), _outcomes(results)
    first, second = lanes
    lanes.begin(first, _offer(slots), outcomes)
    assert (len(first.given), len(outcomes), first.asked) == (given, results - given, 5)
    assert second.stirred.is_set() is bool(outcomes)
    assert not outcomes or lanes.worth(_offer(slots - first.asked), len(outcomes))


def test_who_takes_nothing_writes_all_with_one_call() -> None:
    lanes, outcomes = Lanes(), _outcomes(40)
    first, second = lanes
    lanes.begin(first, None, outcomes)
    assert (len(first.given), outcomes, second.stirred.is_set()) == (40, [], False)


def test_a_call_that_failed_keeps_its_name_until_it_is_answered_with_jobs() -> None:
    lanes = Lanes()
    first, _ = lanes
    lanes.begin(first, _offer(10), _outcomes(1))
    name = first.token
    assert [one.job_id for one in first.end()] == ["job-0"]
    assert (lanes.calling, lanes.open) == (False, True), "jobs may be in the answer that was lost"
    lanes.begin(first, _offer(10), [])
    assert first.token == name
    first.answered(jobs=True)
    first.end()
    assert not lanes.open
    lanes.begin(first, _offer(10), [])
    assert first.token != name
