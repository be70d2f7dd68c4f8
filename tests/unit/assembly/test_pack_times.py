"""What node packs cost a boot, and which got slower."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import attrs
import pytest

from machine_lifecycle.assembly.pack_times import PackTimer, Spent, compare, imports
from machine_lifecycle.lifecycle.core import Lifecycle
from machine_lifecycle.lifecycle.events import MachineFailed, MachineReady, PacksTimed
from machine_lifecycle.lifecycle.hooks import EventBus
from machine_lifecycle.lifecycle.policy import BootPolicy
from machine_lifecycle.model.packs import Loaded, Pack, PackTimes
from machine_lifecycle.system.clock import SystemClock


@pytest.mark.parametrize(
    ("before", "now", "slower"),
    [
        (1.0, 1.0, False),
        (1.0, 1.2, False),
        (1.0, 1.3, True),
        (10.0, 11.9, False),
        (10.0, 12.1, True),
        (0.1, 0.3, False),  # three times as long, and nobody would notice
        (0.0, 0.3, True),
        (2.0, 0.5, False),
    ],
)
def test_a_fifth_and_enough_to_be_noticed(before: float, now: float, slower: bool) -> None:  # noqa: FBT001 - a case
    (one,) = compare({"a": {"import": before}}, {"a": {"import": now}})
    assert bool(one.slower) is slower
    assert one.imported == now


def test_what_was_not_done_again_is_as_last_measured_and_not_slower() -> None:
    (one,) = compare({"a": {"fetch": 2.0, "script": 1.0}}, {"a": {"script": 3.0, "import": 0.5}})
    assert one == PackTimes(
        name="a",
        fetch=2.0,
        script=3.0,
        imported=0.5,
        slower=("script took 3.0 s, 1.0 s before",),
    )
    assert one.total == 5.5


def test_the_slowest_instance_counts() -> None:
    told = [
        Loaded(instance=name, packs=(Pack(name="a", seconds=took), Pack(name="b")))
        for name, took in (("gpu0", 0.3), ("gpu1", 0.9), ("gpu2", 0.5))
    ]
    assert imports(told) == {"a": {"import": 0.9}}


async def test_it_is_told_at_ready_and_kept_for_the_next_boot(tmp_path: Path) -> None:
    heard: list[Any] = []

    async def boot(spent: Spent, seconds: float) -> tuple[PackTimes, ...]:
        bus = EventBus(SystemClock())
        bus.on(PacksTimed, heard.append)
        timer = PackTimer(
            lifecycle=Lifecycle(policy=BootPolicy()),
            bus=bus,
            path=tmp_path / "pack-times.json",
            spent=lambda: spent,
            loaded=lambda: [Loaded(instance="gpu0", packs=(Pack(name="a", seconds=seconds),))],
        )
        timer.hear(MachineReady(seconds=1.0))
        await bus.close()
        times: tuple[PackTimes, ...] = heard[-1].times
        return times

    first = await boot({"a": {"fetch": 1.5}, "gone": {"fetch": 1.0}}, 1.0)
    assert [one.name for one in first] == ["a", "gone"]
    second = await boot({}, 2.0)
    assert [attrs.astuple(one) for one in second] == [
        ("a", 1.5, None, None, 2.0, ("import took 2.0 s, 1.0 s before",))
    ]
    kept = json.loads((tmp_path / "pack-times.json").read_text())
    assert kept == {"a": {"fetch": 1.5, "import": 2.0}}
    (tmp_path / "pack-times.json").write_text('{"a": [1]}')
    assert [one.slower for one in await boot({}, 9.0)] == [()]


async def test_of_a_boot_that_failed_it_is_kept_what_was_done(tmp_path: Path) -> None:
    path = tmp_path / "pack-times.json"
    path.write_text(json.dumps({"a": {"fetch": 9.0, "import": 1.0}, "b": {"fetch": 1.0}}))
    heard: list[Any] = []
    bus = EventBus(SystemClock())
    bus.on(PacksTimed, heard.append)
    PackTimer(
        lifecycle=Lifecycle(policy=BootPolicy()),
        bus=bus,
        path=path,
        spent=lambda: {"a": {"fetch": 1.5}},
        loaded=lambda: [Loaded(instance="gpu0", packs=(Pack(name="a", seconds=7.0),))],
    ).hear(MachineFailed(error={}))
    await bus.close()
    assert heard == []
    kept = json.loads(path.read_text())
    assert kept == {"a": {"fetch": 1.5, "import": 1.0}, "b": {"fetch": 1.0}}


async def test_a_machine_without_packs_tells_nothing(tmp_path: Path) -> None:
    heard: list[Any] = []
    bus = EventBus(SystemClock())
    bus.on(PacksTimed, heard.append)
    PackTimer(
        lifecycle=Lifecycle(policy=BootPolicy()),
        bus=bus,
        path=tmp_path / "pack-times.json",
        spent=dict,
        loaded=list,
    ).hear(MachineReady(seconds=1.0))
    await bus.close()
    assert heard == []
    assert not (tmp_path / "pack-times.json").exists()
