from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from machine_lifecycle.config.expansion import expand


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain $5 {x}", "plain $5 {x}"),
        ("${A}", "a"),
        ("${A:-x}", "a"),
        ("${B:-x}", "x"),
        ("${EMPTY:-x}", "x"),
        ("${B:-}", ""),
        ("${B:-${A}}/y", "a/y"),
        ("${B:-${C:-z}}", "z"),
        ("${A:-${C}}", "a"),
        ("$${A}", "${A}"),
        ("${B:-http://h:1/x}", "http://h:1/x"),
    ],
)
def test_references(text: str, expected: str) -> None:
    found = expand(text, {"A": "a", "EMPTY": ""})
    assert (found.text, found.problems) == (expected, ())


def test_what_is_missing_is_told_with_its_place() -> None:
    found = expand("ab ${NOPE}", {})
    assert found.missing == ("NOPE",)
    assert found.problems[0].startswith("column 4")
    assert not found.malformed
    assert expand("${1}", {}).malformed
    assert expand("${A", {"A": "a"}).malformed


@given(st.text(alphabet="${}:-AB ", max_size=20))
def test_any_text_ends(text: str) -> None:
    assert isinstance(expand(text, {"A": "a"}).text, str)
