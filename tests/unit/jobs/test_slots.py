"""Slots at services: given on while results are fetched, within a bound."""

from __future__ import annotations

from machine_lifecycle.jobs.slots import Slots


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
