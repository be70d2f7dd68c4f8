"""The wire form of events and of the report: it grows, and nothing that readers know changes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.wire import FOLDER, breaks, wanted

FORMS = wanted()


def test_every_form_is_pinned() -> None:
    assert sorted(path.stem for path in FOLDER.glob("*.json")) == sorted(FORMS)


@pytest.mark.parametrize("name", sorted(FORMS))
def test_a_form_is_as_it_was(name: str) -> None:
    known = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    assert breaks(known, FORMS[name]) == []
    assert known == FORMS[name], "it has grown: python -m tests.support.wire"


@pytest.mark.parametrize(
    ("new", "words"),
    [
        ({"a": 1, "b": {"c": ["x", "y"]}, "more": 1}, []),
        ({"b": {"c": ["x", "y"]}}, [".a is gone"]),
        ({"a": "1", "b": {"c": ["x", "y"]}}, [".a was 1 and is '1'"]),
        ({"a": 1, "b": {"c": ["y", "z"]}}, [".b.c: 'x' is gone"]),
        ({"a": 1, "b": None}, [".b was {'c': ['x', 'y']} and is None"]),
    ],
)
def test_what_breaks_readers_is_found(new: Any, words: list[str]) -> None:
    assert breaks({"a": 1, "b": {"c": ["x", "y"]}}, new) == words
