"""Boots that find no lock of a person's: they make one of their own, keep it, and follow it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from machine_lifecycle.errors import Problems
from machine_lifecycle.installers.git_errors import PackBlocked
from machine_lifecycle.installers.lock import parse_lock
from machine_lifecycle.installers.lock_errors import (
    LockMissing,
    LockStale,
    PackImpossible,
    PackLeftOut,
)
from machine_lifecycle.model.choices import LockMode
from tests.benchmarks.installing.world import wheel
from tests.support.lock_bed import served
from tests.support.locked_machine import Machine


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    with served(tmp_path) as place:
        yield Machine(place)


async def test_the_first_boot_makes_a_lock_says_so_and_later_ones_follow_it(
    machine: Machine,
) -> None:
    origin = machine.place.origin("a", requirements__txt="thing\n")
    machine.lists("a")
    await machine.boots()
    assert "lock: there is no lock: it is made now, and kept" in machine.progress.lines
    lock = parse_lock(machine.own_lock.read_text("utf-8"), machine.own_lock)
    said = f"lock: 1 packs and {len(lock.packages)} packages are locked, in {machine.own_lock}"
    assert said in machine.progress.lines
    assert machine.versions() == {one.name: one.version for one in lock.packages}
    assert await machine.proved(lock) == []
    assert not machine.lock.exists(), "a person's place is left alone"

    origin.commit(later="1")
    wheel(machine.root / "wheels", "thing", "3.0")
    (machine.root / "git").rename(machine.root / "away")
    again = await machine.boots(UV_DEFAULT_INDEX="http://127.0.0.1:9/simple", UV_OFFLINE="1")
    assert {one.status.value for one in again.outcomes} == {"skipped"}
    assert await machine.proved(lock) == []


async def test_another_list_brings_it_up_to_date_and_keeps_the_rest(machine: Machine) -> None:
    origin = machine.place.origin("a", requirements__txt="thing\n")
    machine.lists("a")
    await machine.boots()
    before = parse_lock(machine.own_lock.read_text("utf-8"), machine.own_lock)
    origin.commit(later="1")
    machine.place.origin("b", requirements__txt="small\n")
    machine.lists("a", "b")
    await machine.boots()
    after = parse_lock(machine.own_lock.read_text("utf-8"), machine.own_lock)
    assert after.packs[0] == before.packs[0]
    assert [pack.name for pack in after.packs] == ["a", "b"]
    assert "lock: the lock is brought up to date: pack b is not locked" in machine.progress.lines
    assert (machine.home / "custom_nodes" / "b" / ".git").is_dir()


async def test_a_lock_of_a_persons_comes_before_and_is_never_written(machine: Machine) -> None:
    machine.place.origin("a", requirements__txt="thing\n")
    machine.lists("a")
    await machine.boots()
    lock = await machine.is_locked("a")
    text = machine.lock.read_text()
    await machine.boots()
    assert machine.lock.read_text() == text == lock.text()
    machine.lists("a", branch="dev")
    with pytest.raises(LockStale, match="config_nodes"):
        await machine.boots()
    assert machine.lock.read_text() == text


async def test_a_pack_out_of_reach_is_looked_for_again_at_each_boot(machine: Machine) -> None:
    machine.place.origin("a", requirements__txt="thing\n")
    machine.lists("a", "late")
    run = await machine.boots()
    (failed,) = run.failures
    assert (failed.subject, type(failed.error)) == ("late", PackLeftOut)
    text = machine.own_lock.read_text()
    await machine.boots()
    assert "lock: still out of reach: late" in machine.progress.lines
    assert machine.own_lock.read_text() == text
    machine.place.origin("late", requirements__txt="small\n")
    run = await machine.boots()
    assert run.failures == ()
    assert (machine.home / "custom_nodes" / "late" / ".git").is_dir()


async def test_a_pinned_pack_out_of_reach_makes_no_new_lock_at_each_boot(machine: Machine) -> None:
    machine.place.origin("a", requirements__txt="thing\n")
    machine.lists("a", "late", commit="c0ffee" * 6 + "c0ff")
    await machine.boots()
    solved = machine.log().count("pip compile")
    await machine.boots()
    assert "lock: still out of reach: a, late" in machine.progress.lines
    assert machine.log().count("pip compile") == solved


async def test_a_requirement_out_of_reach_makes_no_new_lock_at_each_boot(machine: Machine) -> None:
    line = "tool @ git+https://example.org/tool/.git\n"
    machine.place.origin("a", requirements__txt=line)
    machine.lists("a")
    await machine.boots()
    solved = machine.log().count("pip compile")
    run = await machine.boots()
    assert [one.subject for one in run.failures] == ["a"]
    assert "lock: still out of reach: a" in machine.progress.lines
    assert machine.log().count("pip compile") == solved


async def test_an_address_that_is_none_costs_its_pack_at_each_boot(machine: Machine) -> None:
    machine.place.origin("a", requirements__txt="thing\n")
    machine.lists("a", url="nonsense://127.0.0.1/a")
    for _ in range(2):
        (failed,) = (await machine.boots()).failures
        assert (failed.subject, type(failed.error)) == ("a", PackLeftOut)


async def test_a_required_pack_out_of_reach_leaves_no_lock(machine: Machine) -> None:
    machine.lists("gone", required=True)
    with pytest.raises(Problems) as raised:
        await machine.boots()
    (error,) = raised.value.errors
    assert isinstance(error, PackImpossible)
    assert error.recoverable
    assert not machine.own_lock.exists()


async def test_a_lock_can_be_required(machine: Machine) -> None:
    machine.place.origin("a", requirements__txt="thing\n")
    machine.lists("a")
    with pytest.raises(LockMissing, match="COMFYUI_LOCK=require"):
        await machine.boots(mode=LockMode.REQUIRE)
    await machine.boots()
    await machine.boots(mode=LockMode.REQUIRE)
    machine.lists("a", branch="dev")
    with pytest.raises(LockStale):
        await machine.boots(mode=LockMode.REQUIRE)


async def test_constraints_of_the_environment_hold_in_the_lock(machine: Machine) -> None:
    machine.place.origin("a", requirements__txt="thing\n")
    machine.lists("a")
    held = machine.root / "constraints.txt"
    held.write_text("thing<2.1\n")
    await machine.boots(PIP_CONSTRAINT=str(held))
    assert machine.versions()["thing"] == "2.0"


async def test_a_lock_can_be_done_without(machine: Machine) -> None:
    machine.place.origin("a", requirements__txt="thing\n")
    await machine.is_locked("a")
    machine.lock.write_text("{}")
    held = machine.root / "constraints.txt"
    held.write_text("torch<2.1\n")
    await machine.boots(mode=LockMode.OFF, UV_CONSTRAINT=str(held))
    assert "thing" in machine.versions()
    assert "pip compile" not in machine.log()
    assert not machine.own_lock.exists()


async def test_packs_that_are_switched_off_are_not_asked_for(machine: Machine) -> None:
    machine.lists("gone", required=True)
    await machine.boots({"custom_nodes_enabled": "false"})
    assert json.loads(machine.own_lock.read_text())["packs"] == []
    machine.place.origin("gone", requirements__txt="thing\n")
    await machine.boots()
    assert "thing" in machine.versions()


async def test_a_pack_that_is_blocked_no_longer_is_brought(machine: Machine) -> None:
    machine.place.origin("a", requirements__txt="thing\n")
    machine.lists("a")
    blocked = machine.root / "blocked.txt"
    blocked.write_text("a  # it harms\n")
    run = await machine.boots(blocked_packs=blocked)
    assert [type(one.error) for one in run.failures] == [PackBlocked]
    run = await machine.boots()
    assert run.failures == ()
    assert (machine.home / "custom_nodes" / "a" / ".git").is_dir()
    assert "thing" in machine.versions()


async def test_a_release_that_is_blocked_by_now_is_replaced(machine: Machine) -> None:
    machine.place.origin("a", requirements__txt="thing\n")
    machine.lists("a")
    await machine.boots()
    assert machine.versions()["thing"] == "2.1"
    blocked = machine.root / "blocked.txt"
    blocked.write_text("# known to do harm\nthing != 2.1  # steals keys\nother == 0\n")
    assert (await machine.boots(blocked_packages=blocked)).failures == ()
    assert machine.versions()["thing"] == "2.0"
    assert "lock: the lock is brought up to date: thing 2.1 is blocked" in machine.progress.lines
    again = await machine.boots(blocked_packages=blocked)
    assert {one.status.value for one in again.outcomes} == {"skipped"}


async def test_a_lock_of_a_persons_may_leave_out_what_is_blocked_no_longer(
    machine: Machine,
) -> None:
    machine.place.origin("a", requirements__txt="thing\n")
    machine.lists("a")
    blocked = machine.root / "blocked.txt"
    blocked.write_text("a  # it harms\n")
    await machine.boots(blocked_packs=blocked)
    machine.own_lock.rename(machine.lock)
    run = await machine.boots()
    assert [type(one.error) for one in run.failures] == [PackLeftOut]
