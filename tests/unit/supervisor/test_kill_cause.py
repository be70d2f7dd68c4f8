"""What is said of a SIGKILL, from what the kernel counts."""

from __future__ import annotations

from pathlib import Path

import pytest

from machine_lifecycle.supervisor.kill_cause import OomCount, our_counts


@pytest.mark.parametrize(
    ("system", "group", "said"),
    [
        (1, 1, "out of memory: the kernel killed in our control group"),
        (1, 0, "perhaps out of memory: the kernel killed for that on this system"),
        (0, 0, "by somebody"),
        (None, 0, "perhaps out of memory"),
    ],
)
def test_a_count_that_rises_is_told(
    tmp_path: Path, system: int | None, group: int, said: str
) -> None:
    vmstat, events = tmp_path / "vmstat", tmp_path / "memory.events"
    events.write_text("low 0\noom 3\noom_kill 4\n")
    if system is not None:
        vmstat.write_text("nr_free_pages 12\noom_kill 7\n")
    count = OomCount(vmstat, [events])
    events.write_text(f"low 0\noom 3\noom_kill {4 + group}\n")
    if system is not None:
        vmstat.write_text(f"nr_free_pages 12\noom_kill {7 + system}\n")
    assert count.words().startswith(f", {said}")
    assert count.words().startswith(f", {said}"), "several are killed at once"


def test_what_was_killed_before_us_is_not_counted(tmp_path: Path) -> None:
    vmstat = tmp_path / "vmstat"
    vmstat.write_text("oom_kill 7\n")
    assert "by somebody" in OomCount(vmstat, []).words()


def test_our_own_groups_are_readable() -> None:
    assert all("oom_kill" in file.read_text("ascii") for file in our_counts())
