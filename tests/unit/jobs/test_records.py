"""What other parties write into a job's record."""

from __future__ import annotations

import pytest

from machine_lifecycle.jobs.claims import Claimed
from machine_lifecycle.jobs.records import from_iso, record_from_hash


@pytest.mark.parametrize("text", ["inf", "-inf", "nan", "1e999", "many", ""])
def test_numbers_that_are_none_count_for_nothing(text: str) -> None:
    fields = {"id": "a", "priority": text, "retry_count": text, "created_at": text}
    record = record_from_hash(fields, {"progress": text})
    assert (record.priority, record.retry_count, record.created_ms) == (50, 0, 0)
    assert record.progress == 0.0
    assert from_iso(text) == 0
    job = Claimed("a", 1, {**fields, "timeout_minutes": text}).job(default_timeout=5)
    assert (job.attempt, job.timeout) == (1, 5)


@pytest.mark.parametrize(
    ("status", "percent"),
    [("pending", 0), ("unworkable", 0), ("assigned", 0), ("in_progress", 61), ("failed", 61)],
)
def test_how_far_an_earlier_run_got_is_no_progress(status: str, percent: float) -> None:
    record = record_from_hash({"status": status}, {"progress": "61", "message": "node 5"})
    assert (record.progress, record.message) == (percent, "node 5" if percent else "")
