"""How many node packs may be missing."""

from __future__ import annotations

import pytest

from machine_lifecycle.assembly.pack_floor import Listed, may_miss, missing_too_much


def listed(floor: float) -> Listed:
    return Listed(frozenset({"needed"}), frozenset({"a", "b", "c"}), floor)


@pytest.mark.parametrize(
    ("optional", "floor", "allowed"),
    [
        (0, 0.9, 1),
        (1, 0.9, 1),
        (9, 0.9, 1),
        (10, 0.9, 1),
        (19, 0.9, 1),
        (20, 0.9, 2),
        (64, 0.9, 6),
        (64, 0.5, 32),
        (64, 0.0, 64),
        (64, 1.0, 0),
        (3, 1.0, 0),
    ],
)
def test_one_may_be_missing_then_a_share(optional: int, floor: float, allowed: int) -> None:
    assert may_miss(optional, floor) == allowed


def test_a_required_one_may_never_be_missing() -> None:
    error = missing_too_much("comfyui", listed(0.0), {"needed": "no such host"})
    assert error is not None
    assert error.summary == "comfyui lacks the required node pack needed (no such host)"
    assert not any("MACHINE_PACK_FLOOR" in str(one) for one in error.remedies)


def test_few_of_the_rest_may_be_missing_and_the_remedy_allows_what_there_is() -> None:
    assert missing_too_much("comfyui", listed(0.9), {"a": "x"}) is None
    error = missing_too_much("comfyui", listed(0.9), {"a": "x", "b": "y"})
    assert error is not None
    assert error.summary == (
        "2 of 3 node packs of comfyui are missing, 1 may be (MACHINE_PACK_FLOOR=0.9)"
    )
    assert error.remedies[-1].command == "export MACHINE_PACK_FLOOR=0.33"
    assert missing_too_much("comfyui", listed(0.33), error.missing) is None


def test_what_is_not_listed_is_not_counted() -> None:
    assert missing_too_much("comfyui", Listed(), {"a": "x", "b": "y"}) is None
