"""Results on disk."""

from __future__ import annotations

from pathlib import Path

from machine_lifecycle.jobs.outbox import Outbox
from machine_lifecycle.jobs.outcomes import Outcome

OUTCOME = Outcome(("../../a/b", 3, "{}", "{}", "key", 5, "fake"), outputs={"k": b"\x00\xff"})


def test_what_is_kept_is_found_by_a_successor_until_it_is_forgotten(tmp_path: Path) -> None:
    folder = tmp_path / "outbox"
    Outbox(folder).keep(OUTCOME)
    Outbox(folder).keep(OUTCOME)
    (kept,) = folder.iterdir()
    assert kept.stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700
    successor = Outbox(folder)
    (found,) = successor.left()
    assert (found.arguments, dict(found.outputs)) == (OUTCOME.arguments, {"k": b"\x00\xff"})
    successor.forget(found)
    assert list(folder.iterdir()) == []


def test_what_can_not_be_read_is_dropped(tmp_path: Path) -> None:
    (tmp_path / "broken.json").write_text("{", encoding="utf-8")
    assert list(Outbox(tmp_path).left()) == []
    assert list(tmp_path.iterdir()) == []


def test_without_a_folder_nothing_is_kept() -> None:
    outbox = Outbox(None)
    outbox.keep(OUTCOME)
    outbox.forget(OUTCOME)
    assert list(outbox.left()) == []


def test_long_ids_that_begin_alike_are_kept_apart(tmp_path: Path) -> None:
    outbox, long = Outbox(tmp_path), "x" * 1000
    kept = {f"{long}-{end}" for end in ("a", "b", "☃", "\ud800")}
    for job_id in kept:
        outbox.keep(Outcome((job_id, *OUTCOME.arguments[1:])))
    left = list(outbox.left())
    assert {outcome.job_id for outcome in left} == kept
