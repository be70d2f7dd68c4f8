"""What packs' own scripts do when they are installed, and how it is told from work by hand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from machine_lifecycle.installers.execute import Executor
from tests.benchmarks.installing.world import wheel
from tests.support.lock_bed import served
from tests.support.locked_machine import PLAN, Machine

INSTALL = """
import os, pathlib, sys
import torch  # what it requires is there
with pathlib.Path("ran").open("a") as book:
    print(os.environ["COMFYUI_PATH"], os.environ["UV_CONSTRAINT"], sys.prefix, sep="|", file=book)
"""
MOVES = "mkdir -p data && mv table.csv data/ && echo '# by the script' >> code.py"


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    with served(tmp_path) as place:
        yield Machine(place)


def ran(machine: Machine, pack: str) -> list[str]:
    book = machine.home / "custom_nodes" / pack / "ran"
    return book.read_text().splitlines() if book.exists() else []


async def test_install_py_is_run_once_after_the_requirements(machine: Machine) -> None:
    origin = machine.place.origin("a", requirements__txt="thing\n", install__py=INSTALL)
    machine.place.origin("b", requirements__txt="")
    await machine.is_locked("a", "b")
    run = await machine.boots()
    assert run.failures == ()
    (told,) = ran(machine, "a")
    where, constraints, prefix = told.split("|")
    assert where == str(machine.home)
    assert f"{machine.home}/.machine-lifecycle/protected.txt" in constraints
    assert prefix == str(machine.home / "venv")
    await machine.boots()
    assert len(ran(machine, "a")) == 1
    origin.commit(more="1")
    await machine.is_locked("a", "b")
    await machine.boots()
    assert len(ran(machine, "a")) == 2, "another commit may ask for more"


async def test_what_another_pack_requires_runs_no_script_again(machine: Machine) -> None:
    wheel(machine.root / "wheels", "other", "1.0")
    machine.place.origin("a", requirements__txt="thing<2.1\n", install__py=INSTALL)
    machine.place.origin("b", requirements__txt="other\n", install__py=INSTALL)
    for names in (["a"], ["a", "b"]):
        machine.lists(*names)
        assert (await machine.boots()).failures == ()
    assert "other" in machine.versions()
    assert (len(ran(machine, "a")), len(ran(machine, "b"))) == (1, 1)
    # Other packages of its own may ask for it.
    machine.own_lock.unlink()
    held = machine.root / "constraints.txt"
    held.write_text("thing<2\n")
    wheel(machine.root / "wheels", "thing", "1.0")
    assert (await machine.boots(PIP_CONSTRAINT=str(held))).failures == ()
    assert machine.versions()["thing"] == "1.0"
    assert (len(ran(machine, "a")), len(ran(machine, "b"))) == (2, 1)


async def test_install_py_is_left_alone_where_that_is_wanted(machine: Machine) -> None:
    machine.place.origin("a", requirements__txt="", install__py=INSTALL)
    await machine.is_locked("a")
    settings = attrs.evolve(machine.settings, comfyui_install_py=False)
    run = Executor(machine.paths, settings=settings, environ=machine.place.environ)
    for stage in ("base", "nodes"):
        await run.install(PLAN, stage, machine.progress)
    assert run.failures == ()
    assert ran(machine, "a") == []


async def test_an_install_py_that_fails_costs_its_own_pack(machine: Machine) -> None:
    machine.place.origin("a", requirements__txt="", install__py="raise SystemExit('no model')")
    machine.place.origin("b", requirements__txt="", install__py=INSTALL)
    await machine.is_locked("a", "b")
    run = await machine.boots()
    (failed,) = run.failures
    assert failed.subject == "a"
    assert failed.error is not None
    assert "no model" in "\n".join(failed.error.context)
    assert len(ran(machine, "b")) == 1


async def test_a_file_of_which_only_the_time_is_another_is_no_change(
    machine: Machine,
) -> None:
    again = "import os; os.utime('code.py', (1, 1))"
    machine.place.origin("a", requirements__txt="", code__py="x = 1\n", install__py=again)
    lock = await machine.is_locked("a")
    assert (await machine.boots()).failures == ()
    assert await machine.proved(lock) == []


async def test_files_that_a_script_changes_are_told_from_those_changed_by_hand(
    machine: Machine,
) -> None:
    origin = machine.place.origin("a", requirements__txt="", code__py="x = 1\n", table__csv="1\n")
    lock = await machine.is_locked("a")
    machine.lists("a", custom_script=MOVES)
    assert (await machine.boots()).failures == ()
    folder = machine.home / "custom_nodes" / "a"
    assert (folder / "data" / "table.csv").exists()
    assert await machine.proved(lock) == []

    # Another commit is taken, and the script runs on that.
    origin.commit(code__py="x = 2\n")
    lock = await machine.is_locked("a")
    machine.lists("a", custom_script=MOVES)
    assert (await machine.boots()).failures == ()
    assert (folder / "code.py").read_text() == "x = 2\n# by the script\n"
    assert await machine.proved(lock) == []

    # What a person changes beside it is theirs.
    (folder / "code.py").write_text("x = 3\n")
    (difference,) = await machine.proved(lock)
    assert difference.line == "pack a has changed files: code.py"
    origin.commit(code__py="x = 4\n")
    await machine.is_locked("a")
    machine.lists("a", custom_script=MOVES)
    (failed,) = (await machine.boots()).failures
    assert failed.error is not None
    assert failed.error.code == "files-changed-by-hand"
    assert (folder / "code.py").read_text() == "x = 3\n"
