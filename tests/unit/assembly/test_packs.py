"""What is made of the node packs that services loaded: the condition, its words, what is shown."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import attrs
import pytest

from machine_lifecycle.assembly.pack_floor import Listed
from machine_lifecycle.assembly.packs import PackWatch, left_out_words, missed, with_absent
from machine_lifecycle.lifecycle.core import Lifecycle
from machine_lifecycle.lifecycle.events import Event
from machine_lifecycle.lifecycle.hooks import EventBus
from machine_lifecycle.lifecycle.policy import BootPolicy
from machine_lifecycle.model.packs import Loaded, Pack, PackState
from machine_lifecycle.system.clock import SystemClock

GOOD = Pack(name="good", nodes=2, seconds=0.3)
LACKS = Pack(
    name="lacks", state=PackState.FAILED, missing="x", reason="ModuleNotFoundError: No module x"
)
STRAY = Pack(
    name="stray",
    state=PackState.FAILED,
    reason="FileNotFoundError: [Errno 2] No such file or directory: '/c/stray/__init__.py'",
)


def loaded(*packs: Pack, instance: str = "comfyui-gpu0", complete: bool = True) -> Loaded:
    return Loaded(instance=instance, packs=packs, complete=complete)


@pytest.mark.parametrize(
    ("listed", "names"),
    [
        ({"good", "lacks"}, ["lacks"]),
        ({"good"}, []),
        ({"stray"}, ["stray"]),
        (set[str](), ["lacks"]),
    ],
    ids=["listed", "not-listed", "a-listed-folder-without-a-pack", "no-list"],
)
def test_a_pack_is_missed_if_it_is_listed_or_if_there_is_no_list(
    listed: set[str], names: list[str]
) -> None:
    assert [pack.name for pack in missed(loaded(GOOD, LACKS, STRAY), listed)] == names


def test_a_listed_pack_of_which_nothing_is_said_is_absent() -> None:
    found = with_absent(loaded(GOOD), {"good", "gone"})
    assert [(pack.name, pack.state) for pack in found.packs] == [
        ("good", PackState.LOADED),
        ("gone", PackState.ABSENT),
    ]
    assert [pack.name for pack in missed(found, {"good", "gone"})] == ["gone"]


def test_what_can_not_be_known_is_not_held_against_a_service() -> None:
    # A service elsewhere, or one whose log is gone: a pack without nodes may be in all the same.
    found = loaded(GOOD, complete=False)
    assert with_absent(found, {"good", "scripts"}) == found


def test_instances_that_miss_the_same_are_told_together() -> None:
    packs = {"gpu0": (LACKS,), "gpu1": (LACKS,), "gpu2": (), "gpu3": (LACKS, STRAY)}
    assert left_out_words(packs) == (
        f"1 node pack did not load on gpu0, gpu1: lacks ({LACKS.reason}); "
        f"2 node packs did not load on gpu3: lacks ({LACKS.reason}); stray ({STRAY.reason})"
    )
    assert not left_out_words({"gpu0": ()})


def test_a_cause_that_packs_share_is_told_once_and_a_long_one_cut() -> None:
    other = attrs.evolve(LACKS, name="other")
    long = attrs.evolve(LACKS, name="long", reason="no answer from the host " * 20)
    words = left_out_words({"gpu0": (LACKS, other, long)})
    told, rest = words.split("; ")
    assert told == f"3 node packs did not load on gpu0: lacks, other ({LACKS.reason})"
    assert rest.startswith("long (no answer from the host")
    assert rest.endswith(" …)")
    assert len(rest) < 180


@attrs.define
class Told:
    """What the watch raised and dropped, in order."""

    calls: list[tuple[str, ...]] = attrs.field(factory=list)

    def raise_condition(self, *words: str) -> None:
        self.calls.append(("raise", *words))

    def drop_cause(self, *words: str) -> None:
        self.calls.append(("drop", *words))


def watch(
    told: Told,
    listed: Iterable[str] = (),
    failed: Iterable[str] = (),
    moved: tuple[str, ...] = (),
) -> PackWatch:
    return PackWatch(
        lifecycle=Lifecycle(policy=BootPolicy()),
        bus=EventBus(SystemClock()),
        listed=lambda _service: Listed(optional=frozenset(listed)),
        failed=lambda: tuple(failed),
        moved=lambda _service: moved,
        conditions=told,
    )


async def test_packages_that_a_pack_changed_meanwhile_are_told_beside_packs() -> None:
    told = Told()
    packs = watch(told, moved=("torch 2.0, now 2.1", "small 1.0, now gone"))
    packs.heard([loaded(GOOD)])
    packs.heard([loaded(GOOD, LACKS)])
    await packs.bus.close()
    first, second = (call[3] for call in told.calls)
    assert first == (
        "packages of comfyui-gpu0 were changed since they were installed, by a node pack say: "
        "torch 2.0, now 2.1, small 1.0, now gone; the next boot puts them back"
    )
    assert second == f"1 node pack did not load on comfyui-gpu0: lacks ({LACKS.reason}); {first}"


async def test_the_condition_follows_what_instances_say() -> None:
    told = Told()
    packs = watch(told)
    heard: list[Any] = []
    packs.bus.on(Event, heard.append)
    packs.heard([loaded(GOOD), loaded(LACKS, instance="other")])
    packs.heard([loaded(GOOD)])  # nothing new: nothing is told twice
    packs.heard([loaded(GOOD, LACKS)])
    packs.heard([loaded(GOOD)])
    packs.heard([loaded(attrs.evolve(LACKS, state=PackState.LOADED), instance="other")])
    await packs.bus.close()
    words = f"lacks ({LACKS.reason})"
    assert told.calls == [
        ("raise", "degraded", "loading", f"1 node pack did not load on other: {words}"),
        (
            "raise", "degraded", "loading",
            f"1 node pack did not load on comfyui-gpu0, other: {words}",
        ),
        ("raise", "degraded", "loading", f"1 node pack did not load on other: {words}"),
        ("drop", "degraded", "loading"),
    ]  # fmt: skip
    told_of = [(event.kind, event.instance) for event in heard]
    assert told_of == [
        ("packs_loaded", name)
        for name in ("comfyui-gpu0", "other", "comfyui-gpu0", "comfyui-gpu0", "other")
    ]


async def test_a_pack_that_was_not_installed_is_told_of_once() -> None:
    told = Told()
    packs = watch(told, listed=("good", "not_cloned"), failed=("not_cloned",))
    packs.heard([loaded(GOOD)])
    assert told.calls == []
    # But a pack that is on disk half installed, and does not load, names what it lacks.
    packs.heard([loaded(GOOD, attrs.evolve(LACKS, name="not_cloned"))])
    assert told.calls[0][-1].endswith(f"not_cloned ({LACKS.reason})")
    await packs.bus.close()


async def test_what_was_known_of_a_start_stays_when_its_log_is_gone() -> None:
    told = Told()
    packs = watch(told)
    known = attrs.evolve(loaded(GOOD, LACKS), started=5.0)
    packs.heard([known])
    packs.heard([attrs.evolve(loaded(GOOD, complete=False), started=5.0)])
    assert packs.report() == (known,)
    assert len(told.calls) == 1
    packs.heard([attrs.evolve(loaded(GOOD, complete=False), started=9.0)])
    assert told.calls[-1] == ("drop", "degraded", "loading")
    await packs.bus.close()


async def test_a_new_attempt_knows_nothing() -> None:
    told = Told()
    packs = watch(told)
    packs.heard([loaded(LACKS)])
    packs.begin_anew()
    assert packs.report() == ()
    assert told.calls[-1] == ("drop", "degraded", "loading")
    await packs.bus.close()
