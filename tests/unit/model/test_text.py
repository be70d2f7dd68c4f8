"""Times, sizes and numbers as people read them."""

from __future__ import annotations

import pytest

from machine_lifecycle.model.text import counted, human_bytes, human_seconds


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (0, "0 ms"), (0.34, "340 ms"), (0.9996, "1.0 s"), (4.8, "4.8 s"), (59.94, "59.9 s"),
        (59.97, "1 min 0 s"), (179.7, "3 min 0 s"), (200, "3 min 20 s"), (3599.7, "1 h 0 min"),
        (7500, "2 h 5 min"), (86399.9, "1 d 0 h"), (273600, "3 d 4 h"),
    ],
)  # fmt: skip
def test_durations(seconds: float, told: str) -> None:
    assert human_seconds(seconds) == told


@pytest.mark.parametrize(
    ("count", "told"),
    [(0, "0 B"), (512, "512 B"), (1023, "1023 B"), (3482, "3.4 KiB"), ((1 << 20) - 1, "1.0 MiB")],
)
def test_sizes(count: int, told: str) -> None:
    assert human_bytes(count) == told


def test_numbers_of_things() -> None:
    told = [counted(number, "worker") for number in (0, 1, 2)]
    assert told == ["0 workers", "1 worker", "2 workers"]
    assert counted(2, "process", "processes") == "2 processes"
