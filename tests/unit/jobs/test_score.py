"""Where a job stands in the queue."""

from __future__ import annotations

import uuid

from hypothesis import given
from hypothesis import strategies as st

from machine_lifecycle.jobs.score import job_id, score

MOMENTS = st.integers(min_value=1_600_000_000_000, max_value=4_000_000_000_000)


@given(st.integers(0, 99), MOMENTS, MOMENTS)
def test_a_higher_priority_always_goes_first(priority: int, one: int, other: int) -> None:
    assert float(score(priority + 1, one)) > float(score(priority, other))


@given(st.integers(0, 100), MOMENTS, st.integers(1, 10_000_000))
def test_within_a_priority_the_older_one_never_goes_later(
    priority: int, moment: int, later: int
) -> None:
    """As Redis orders them: by the score as a double, then by the id, highest first."""
    older = (float(score(priority, moment)), job_id(moment))
    newer = (float(score(priority, moment + later)), job_id(moment + later))
    assert older > newer


def test_ids_have_the_form_of_a_uuid() -> None:
    assert uuid.UUID(job_id(1_795_465_331_708)).version == 8
