"""Places at services: given on while results are fetched, within a bound."""

from __future__ import annotations

from machine_lifecycle.jobs.places import Places


def _unheard() -> None:
    pass


def test_a_place_is_given_on_once_and_ends_once() -> None:
    told: list[str] = []
    places = Places({"comfyui": 1}, lambda: told.append("free"))
    first = places.take("comfyui")
    assert places.taken == {"comfyui": 1}
    for _ in range(2):  # told twice
        first.lend()
        assert places.taken == {"comfyui": 0}
    assert told == ["free"]
    first.end()
    assert places.taken == {"comfyui": 0}


def test_results_do_not_pile_up() -> None:
    places = Places({"comfyui": 1}, _unheard)
    first = places.take("comfyui")
    first.lend()
    second = places.take("comfyui")
    second.lend()
    assert places.taken == {"comfyui": 1}, "the first is still fetched"
    first.end()
    assert places.taken == {"comfyui": 0}, "now the second is"
    second.end()
    third = places.take("comfyui")
    third.end()
    assert places.taken == {"comfyui": 0}


def test_who_ends_before_its_place_could_be_given_on_gives_it_back() -> None:
    places = Places({"comfyui": 1}, _unheard)
    first = places.take("comfyui")
    first.lend()
    second = places.take("comfyui")
    second.lend()
    second.end()
    assert places.taken == {"comfyui": 0}
    third = places.take("comfyui")
    first.end()
    assert places.taken == {"comfyui": 1}
    third.lend()
    assert places.taken == {"comfyui": 0}


def test_each_service_has_its_own() -> None:
    places = Places({"a": 2, "b": 1}, _unheard)
    for place in (places.take("a"), places.take("a"), places.take("b")):
        place.lend()
    assert places.taken == {"a": 0, "b": 0}
