from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from machine_lifecycle.config.workers import MAX_COUNT, parse_workers
from machine_lifecycle.errors import Problems


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("comfyui", [("comfyui", 1)]),
        (" comfyui : 2 ,, simulation:AUTO ", [("comfyui", 2), ("simulation", "auto")]),
        ("pack.mod:SERVICE", [("pack.mod:SERVICE", 1)]),
        ("pack.mod:SERVICE:2", [("pack.mod:SERVICE", 2)]),
        ("a:1,a:2", [("a", 3)]),
        ("a:1,a:auto", [("a", "auto")]),
    ],
)
def test_what_can_be_read(text: str, expected: list[tuple[str, int | str]]) -> None:
    assert [(one.worker, one.count) for one in parse_workers(text)] == expected


@pytest.mark.parametrize("text", ["", " , ", "a:0", "a:-1", "a:2x", ":2", "a:", "a b:1", "a:99999"])
def test_what_cannot(text: str) -> None:
    with pytest.raises(Problems):
        parse_workers(text)


def test_all_problems_come_at_once_with_positions() -> None:
    with pytest.raises(Problems) as caught:
        parse_workers("ok:1,a:0,b:2x")
    assert "item 2, `a:0`" in str(caught.value)
    assert "item 3, `b:2x`" in str(caught.value)


_NAMES = st.from_regex(r"[a-z][a-z0-9-]{0,8}", fullmatch=True)


@given(st.dictionaries(_NAMES, st.integers(1, MAX_COUNT), min_size=1, max_size=5))
def test_what_is_written_is_read(wanted: dict[str, int]) -> None:
    text = ",".join(f"{name}:{count}" for name, count in wanted.items())
    assert {one.worker: one.count for one in parse_workers(text)} == wanted


@given(st.text(max_size=30))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(Problems):
        assert parse_workers(text)
