"""Boots from a lock: exactly what it says, nothing resolved, those left out by name."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from machine_lifecycle.installers.lock_errors import LockStale, LockUnreadable
from machine_lifecycle.installers.lockfile import save_lock
from tests.benchmarks.installing.world import wheel
from tests.support.lock_bed import served
from tests.support.locked_machine import Machine


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    with served(tmp_path) as place:
        yield Machine(place)


async def test_what_is_locked_is_what_is_installed(machine: Machine) -> None:
    origin = machine.place.origin("a", requirements__txt="thing\n")
    machine.place.origin("b", requirements__txt="thing<2.1\n")
    lock = await machine.is_locked("a", "b")
    origin.commit(later="1")
    wheel(machine.root / "wheels", "thing", "3.0")
    wheel(machine.root / "wheels", "torch", "1.9")

    run = await machine.boots()

    folder = machine.home / "custom_nodes" / "a"
    assert (folder / ".git" / "HEAD").read_text().strip() == lock.packs[0].commit
    assert not (folder / "later").exists()
    have = machine.versions()
    assert have == {one.name: one.version for one in lock.packages}
    assert run.failures == ()
    log = machine.log()
    assert "pip compile" not in log
    assert log.count("pip install") == 3, "torch, ComfyUI's, those of all packs"
    assert "-r " in log
    assert list(machine.home.rglob("site-packages/thing/__pycache__/*.pyc"))


async def test_what_is_left_out_is_told_by_name(machine: Machine) -> None:
    machine.place.origin("a", requirements__txt="thing>=2.1\n")
    machine.place.origin("b", requirements__txt="thing<2.1\n")
    await machine.is_locked("a", "b", "gone")
    run = await machine.boots()
    told = {one.subject: one.error for one in run.failures}
    assert set(told) == {"b", "gone"}
    assert {error.code for error in told.values() if error} == {"lock-pack-left-out"}
    assert told["b"] is not None
    assert told["b"].summary == "the lock leaves it out beside a: conflict"
    assert sorted(path.name for path in (machine.home / "custom_nodes").iterdir()) == ["a"]


async def test_a_second_boot_does_nothing_and_asks_nobody(machine: Machine) -> None:
    machine.place.origin("a", requirements__txt="thing\n")
    await machine.is_locked("a")
    await machine.boots()
    (machine.root / "git").rename(machine.root / "away")
    again = await machine.boots(UV_DEFAULT_INDEX="http://127.0.0.1:9/simple", UV_OFFLINE="1")
    assert {one.status.value for one in again.outcomes} == {"skipped"}


async def test_another_lock_is_followed(machine: Machine) -> None:
    origin = machine.place.origin("a", requirements__txt="thing<2.1\n")
    await machine.is_locked("a")
    await machine.boots()
    assert machine.versions()["thing"] == "2.0"
    origin.commit(requirements__txt="thing\n")
    lock = await machine.is_locked("a")
    await machine.boots()
    assert machine.versions()["thing"] == "2.1"
    head = machine.home / "custom_nodes" / "a" / ".git" / "HEAD"
    assert head.read_text().strip() == lock.packs[0].commit


async def test_a_file_that_is_not_the_one_that_was_locked_is_refused(machine: Machine) -> None:
    machine.place.origin("a", requirements__txt="thing\n")
    await machine.is_locked("a")
    wheel(machine.root / "wheels", "thing", "2.1", noise=b"something else")
    run = await machine.boots(UV_CACHE_DIR=str(machine.root / "empty"))
    (failed,) = run.failures
    assert (failed.subject, failed.step) == ("a", "node a packages")
    assert failed.error is not None
    assert "hash" in str(failed.error).lower()


async def test_a_pack_whose_requirements_are_not_wanted_is_there_without_them(
    machine: Machine,
) -> None:
    machine.place.origin("a", requirements__txt="thing\n", install__py=_RAN)
    machine.place.origin("b", requirements__txt="onnxruntime\n")
    packs = [attrs.evolve(pack, requirements=pack.name == "b") for pack in machine.lists("a", "b")]
    lock = await machine.place.lock(machine.place.wanted(*packs, also=("pip", "requests")))
    save_lock(lock, machine.lock)
    nodes = json.loads((machine.root / "config_nodes.json").read_text())
    nodes[0]["requirements"] = False
    (machine.root / "config_nodes.json").write_text(json.dumps(nodes))
    run = await machine.boots()
    assert run.failures == ()
    assert lock.needed_by("a") == ()
    assert "thing" not in machine.versions()
    assert "onnxruntime" in machine.versions()
    assert (machine.home / "custom_nodes" / "a" / "ran").read_text() == "once"


async def test_a_package_that_can_not_be_had_costs_the_packs_that_need_it(
    machine: Machine,
) -> None:
    machine.place.origin("a", requirements__txt="thing\n")
    machine.place.origin("b", requirements__txt="onnxruntime\n", install__py=_RAN)
    machine.place.origin("c", requirements__txt="")
    await machine.is_locked("a", "b", "c")
    wheels = machine.root / "wheels"
    good = {path: path.read_bytes() for path in wheels.glob("thing-2.1*")}
    wheel(wheels, "thing", "2.1", noise=b"something else")
    empty = str(machine.root / "empty")

    run = await machine.boots(UV_CACHE_DIR=empty)
    (failed,) = run.failures
    assert (failed.subject, failed.step) == ("a", "node a packages")
    assert failed.error is not None
    assert failed.error.code == "packages-failed"
    assert "hash" in "\n".join(failed.error.context).lower()
    assert "onnxruntime" in machine.versions()
    assert "thing" not in machine.versions()
    ran = machine.home / "custom_nodes" / "b" / "ran"
    assert ran.read_text() == "once"

    # Nothing that is done is done again; what is not, is tried.
    again = await machine.boots(UV_CACHE_DIR=empty)
    assert [one.subject for one in again.failures] == ["a"]
    did = {one.step for one in again.outcomes if one.status.value != "skipped"}
    assert did == {"preflight", "node a packages", "node a script"}

    for path, content in good.items():
        path.write_bytes(content)
    mended = await machine.boots(UV_CACHE_DIR=empty)
    assert mended.failures == ()
    assert machine.versions()["thing"] == "2.1"
    last = await machine.boots(UV_CACHE_DIR=empty)
    assert {one.status.value for one in last.outcomes} == {"skipped"}


_RAN = "import pathlib; pathlib.Path('ran').open('a').write('once')"


async def test_a_lock_of_another_list_is_refused(machine: Machine) -> None:
    machine.place.origin("a", requirements__txt="")
    await machine.is_locked("a")
    nodes = json.loads((machine.root / "config_nodes.json").read_text())
    nodes[0]["branch"] = "dev"
    (machine.root / "config_nodes.json").write_text(json.dumps(nodes))
    with pytest.raises(LockStale, match="listed otherwise"):
        await machine.boots()
    machine.lock.write_text("{}")
    with pytest.raises(LockUnreadable):
        await machine.boots()


async def test_packs_that_are_switched_off_need_no_other_lock(machine: Machine) -> None:
    machine.place.origin("a", requirements__txt="thing\n")
    await machine.is_locked("a")
    await machine.boots({"custom_nodes_enabled": "false"})
    assert "thing" not in machine.versions()
    assert "torch" in machine.versions()


async def test_what_is_installed_is_held_against_the_lock(machine: Machine) -> None:
    for name in "abc":
        machine.place.origin(name, requirements__txt="thing\nsmall\n", code__py="x = 1\n")
    lock = await machine.is_locked("a", "b", "c")
    await machine.boots()
    assert await machine.proved(lock) == []

    packs = machine.home / "custom_nodes"
    commit = lock.packs[0].commit
    git(packs / "a", "commit", "-q", "--allow-empty", "-m", "x")
    head = git(packs / "a", "rev-parse", "HEAD")
    (packs / "b" / "code.py").write_text("x = 2\n")
    (packs / "b" / "new.py").write_text("not of the pack\n")
    shutil.rmtree(packs / "c")
    (site,) = (machine.home / "venv" / "lib").glob("python*/site-packages")
    small = next(site.glob("small-*.dist-info"))
    small.rename(site / "small-9.0.dist-info")
    facts = site / "small-9.0.dist-info" / "METADATA"
    facts.write_text(facts.read_text().replace("Version: 1.0", "Version: 9.0"))
    for path in site.glob("thing/*.py"):
        path.unlink()
    shutil.rmtree(next(site.glob("requests-*.dist-info")))
    before = sorted(site.iterdir())
    assert [one.line for one in await machine.proved(lock)] == [
        f"pack a is at {head[:12]}, not at {commit[:12]}",
        "pack b has changed files: code.py",
        f"pack c is not there: {packs / 'c'}",
        "package requests is not there, in version 1.0",
        "package small is 9.0, not 1.0",
        "package thing lacks some of its files",
    ]
    assert sorted(site.iterdir()) == before


async def test_without_an_environment_that_is_said(machine: Machine) -> None:
    machine.place.origin("a", requirements__txt="thing\n")
    lock = await machine.is_locked("a")
    found = await machine.proved(lock)
    assert [one.subject for one in found] == ["ComfyUI", "pack a", "Python"]


def git(folder: Path, *words: str) -> str:
    who = ("-c", "user.name=x", "-c", "user.email=x@example.org")
    argv = ["git", "-C", str(folder), *who, *words]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout
