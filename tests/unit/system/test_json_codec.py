"""What is written for every job reads as the standard library would have it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from machine_lifecycle.system import json_codec


class Status(Enum):
    READY = "ready"


@dataclass
class Point:
    x: int


LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8"))
)  # fmt: skip
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20
)


@given(VALUES)
def test_what_is_written_is_read_alike_by_both(value: Any) -> None:
    text = json_codec.encode(value)
    assert json.loads(text) == json_codec.decode(text) == value


@given(VALUES)
def test_what_the_standard_library_wrote_is_read(value: Any) -> None:
    assert json_codec.decode(json.dumps(value)) == value


@pytest.mark.parametrize("text", ["[NaN]", '"\\ud800"', "[1e400]", "[-Infinity]", " [1] "])
def test_what_others_write_oddly_is_read(text: str) -> None:
    assert str(json_codec.decode(text)) == str(json.loads(text))


def test_half_a_character_is_written() -> None:
    assert json_codec.encode({"a": "\ud800"}) == json.dumps({"a": "\ud800"})


def test_what_is_no_number_is_null() -> None:
    assert json_codec.encode([float("nan"), float("inf")]) == "[null,null]"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (b"x", '"eA=="'),
        ({1}, "[1]"),
        (date(2026, 1, 2), '"2026-01-02"'),
        (UUID(int=1), '"00000000-0000-0000-0000-000000000001"'),
        (Decimal("1.5"), '"1.5"'),
        (Status.READY, '"ready"'),
        (Point(1), '{"x":1}'),
    ],
)
def test_what_has_an_obvious_form_is_written_so(value: Any, text: str) -> None:
    assert json_codec.encode(value) == text


@pytest.mark.parametrize("value", [object(), {(1, 2): 3}, {"a": {1, object()}}])
def test_what_is_no_json_is_refused(value: Any) -> None:
    with pytest.raises(TypeError):
        json_codec.encode(value)


def test_what_is_nested_too_deep_is_told() -> None:
    with pytest.raises(RecursionError):
        json_codec.decode("[" * 100_000 + "]" * 100_000)
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    with pytest.raises(RecursionError):
        json_codec.encode(value)


@pytest.mark.parametrize("text", ["", "{", "no", "[1,]"])
def test_what_is_no_json_is_told_as_ever(text: str) -> None:
    with pytest.raises(json.JSONDecodeError):
        json_codec.decode(text)


@given(st.dictionaries(st.text(), st.text()))
def test_an_object_of_texts_is_read_as_it_is(value: dict[str, str]) -> None:
    assert json_codec.texts(json.dumps(value)) == value


@pytest.mark.parametrize(
    "text", ["{", "7", "null", "[]", '["a"]', '{"a": 1}', '{"a": null}', '{"a": "b", "c": {}}']
)
def test_what_is_no_object_of_texts_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - as of the standard library
        json_codec.texts(text)
