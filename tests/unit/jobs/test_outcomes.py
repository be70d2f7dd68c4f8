"""Results on their way into the queue."""

from __future__ import annotations

from machine_lifecycle.jobs.outcomes import Outcome


def test_a_result_weighs_what_is_sent_for_it() -> None:
    signs = Outcome(("j1", 1, "汉" * 100, "", "key", 5, "x"), outputs={"a": b"1234"})
    assert signs.weight == 2 + 300 + 3 + 1 + 4
