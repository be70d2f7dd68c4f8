"""Slots at services: given on while results are fetched, within a bound."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from machine_lifecycle.jobs.slots import QUICK, Slot, Slots


def _unheard() -> None:
    pass


def test_a_slot_is_given_on_once_and_ends_once() -> None:
    told: list[str] = []
    slots = Slots({"comfyui": 1}, lambda: told.append("free"))
    first = slots.take("comfyui")
    assert slots.taken == {"comfyui": 1}
    for _ in range(2):  # told twice
        first.lend()
        assert slots.taken == {"comfyui": 0}
    assert told == ["free"]
    first.end()
    assert slots.taken == {"comfyui": 0}


def test_results_do_not_pile_up() -> None:
    slots = Slots({"comfyui": 1}, _unheard)
    first = slots.take("comfyui")
    first.lend()
    second = slots.take("comfyui")
    second.lend()
    assert slots.taken == {"comfyui": 1}, "the first is still fetched"
    first.end()
    assert slots.taken == {"comfyui": 0}, "now the second is"
    second.end()
    third = slots.take("comfyui")
    third.end()
    assert slots.taken == {"comfyui": 0}


def test_who_ends_before_its_slot_could_be_given_on_gives_it_back() -> None:
    slots = Slots({"comfyui": 1}, _unheard)
    first = slots.take("comfyui")
    first.lend()
    second = slots.take("comfyui")
    second.lend()
    second.end()
    assert slots.taken == {"comfyui": 0}
    third = slots.take("comfyui")
    first.end()
    assert slots.taken == {"comfyui": 1}
    third.lend()
    assert slots.taken == {"comfyui": 0}


def test_each_service_has_its_own() -> None:
    slots = Slots({"a": 2, "b": 1}, _unheard)
    for slot in (slots.take("a"), slots.take("a"), slots.take("b")):
        slot.lend()
    assert slots.taken == {"a": 0, "b": 0}


def _quick(limits: dict[str, int]) -> Slots:
    slots = Slots(limits, _unheard)
    for service in limits:
        for _ in range(3):
            slots.took(service, QUICK / 2)
    return slots


def test_after_some_quick_jobs_one_is_fetched_ahead() -> None:
    slots = Slots({"comfyui": 1}, _unheard)
    for _ in range(2):
        slots.took("comfyui", QUICK / 2)
    assert slots.ahead() == 0
    slots.took("comfyui", QUICK / 2)
    assert slots.ahead() == 1
    first, second = slots.take("comfyui"), slots.take("comfyui")
    assert (first.ahead, second.ahead, slots.ahead()) == (False, True, 0)
    slots.took("comfyui", QUICK)
    first.end()
    assert slots.ahead() == 0, "one that was slow is enough"


@pytest.mark.parametrize(
    ("seconds", "most"), [(QUICK, 0), (0.049, 1), (0.006, 1), (0.005, 2), (0.002, 5), (0.0, 8)]
)
def test_as_many_are_fetched_ahead_as_begin_in_a_moment(seconds: float, most: int) -> None:
    slots = Slots({"comfyui": 1}, _unheard)
    for took in (0.0, seconds, 0.0):
        slots.took("comfyui", took)
    assert slots.ahead() == most, "the longest of the last ones counts"
    for kept in range(most + 1):
        assert (slots.unbegun, slots.ahead()) == (max(0, kept - 1), most - max(0, kept - 1))
        slots.take("comfyui")
    assert slots.ahead() == 0


def test_none_is_fetched_ahead_where_others_are_fetched_meanwhile() -> None:
    assert _quick({"comfyui": 2}).ahead() == 0
    assert _quick({"a": 1, "b": 1}).ahead() == 0


@pytest.mark.parametrize("leave", [Slot.lend, Slot.end])
def test_what_was_fetched_ahead_begins_when_the_service_is_free(
    leave: Callable[[Slot], None],
) -> None:
    told: list[str] = []
    slots = Slots({"comfyui": 1}, lambda: told.append("free"))
    first, second = slots.take("comfyui"), slots.take("comfyui")
    second.on_turn = lambda: told.append("second")
    leave(first)
    assert told == ["second"], "and nothing need be asked for"
    assert (first.followed, second.ahead) == (True, False)
    leave(second)
    assert not second.followed


def test_what_was_fetched_ahead_may_end_before_its_turn() -> None:
    told: list[str] = []
    slots = Slots({"comfyui": 1}, _unheard)
    first, second = slots.take("comfyui"), slots.take("comfyui")
    second.on_turn = lambda: told.append("second")
    second.end()
    first.end()
    assert (told, first.followed, slots.taken) == ([], False, {"comfyui": 0})
