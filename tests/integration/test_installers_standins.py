"""A Python that has everything, and no index: what is installed there is what is locked."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from machine_lifecycle.errors import ExitCode
from machine_lifecycle.installers.lock import Lock, parse_lock
from machine_lifecycle.installers.uv_program import uv_program
from tests.benchmarks.installing.world import wheel
from tests.support.lock_bed import Place, served
from tests.support.locked_machine import Machine
from tests.support.person import Person

NOBODY = "http://127.0.0.1:9/simple"
DEAD = {"UV_DEFAULT_INDEX": NOBODY, "UV_HTTP_RETRIES": "0"}
THERE = ("torch==2.0", "torchvision", "torchaudio", "pip", "requests", "small", "thing==2.0")


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with served(tmp_path) as made:
        yield made


@pytest.fixture
def python(place: Place) -> Path:
    """A Python with packages, of which one is not the newest."""
    found = place.root / "there" / "bin" / "python"
    make(place, found, *THERE)
    return found


def uv(place: Place, *words: str) -> None:
    subprocess.run([uv_program(), *words], env=place.environ, check=True)


def make(place: Place, python: Path, *what: str) -> None:
    uv(place, "venv", "--quiet", "--python", sys.executable, str(python.parent.parent))
    uv(place, "pip", "install", "--quiet", "--python", str(python), *what)


def lose(place: Place, python: Path, package: str) -> None:
    uv(place, "pip", "uninstall", "--quiet", "--python", str(python), package)


def versions(lock: Lock) -> dict[str, str]:
    return {one.name: one.version for one in lock.packages}


def lock_of(person: Person) -> Lock:
    return parse_lock(person.path.read_text("utf-8"), person.path)


@pytest.mark.parametrize("how", [DEAD, {"UV_OFFLINE": "1"}, {"PIP_NO_INDEX": "1"}])
def test_without_an_index_what_the_named_python_has_is_locked(
    place: Place, python: Path, how: dict[str, str]
) -> None:
    place.origin("a", requirements__txt="thing>=2.0\n")
    person = Person(place)
    person.lists("a")
    done = person.calls(COMFYUI_PYTHON=str(python), **how)
    assert done.returncode == 0, done.stderr
    assert f"versions are those that {python} has" in done.stderr
    lock = lock_of(person)
    assert versions(lock) == {"pip": "1.0", "requests": "1.0", "small": "1.0", "thing": "2.0"}
    assert {one.hashes for one in lock.packages} == {()}, "a stand-in's digest is nobody's"
    assert next(one for one in lock.packages if one.name == "thing").wanted_by == ("pack:a",)
    # With an index again, nothing moves that need not, and hashes are known.
    again = person.calls(COMFYUI_PYTHON=str(python))
    assert again.returncode == 0, again.stderr
    assert versions(lock_of(person)) == versions(lock)
    assert all(one.hashes for one in lock_of(person).packages)


def test_a_pack_that_needs_what_is_not_there_is_left_out_by_name(
    place: Place, python: Path
) -> None:
    place.origin("a", requirements__txt="thing\n")
    place.origin("b", requirements__txt="opencv-python\n")
    place.origin("c", requirements__txt="thing>=2.1\n")
    person = Person(place)
    person.lists("a", "b", "c")
    done = person.calls(COMFYUI_PYTHON=str(python), **DEAD)
    assert done.returncode == 0, done.stderr
    assert [one.name for one in lock_of(person).installed] == ["a"]
    assert "left out: b: not-on-index" in done.stderr
    assert "left out: c: conflict" in done.stderr


def test_a_python_that_lacks_what_comfyui_needs_is_told(place: Place, python: Path) -> None:
    person = Person(place)
    person.lists()
    lose(place, python, "small")
    done = person.calls(COMFYUI_PYTHON=str(python), **DEAD)
    assert done.returncode == ExitCode.BOOT_FAILED
    assert "lock-impossible" in done.stderr
    assert "small was not found" in done.stderr
    assert "COMFYUI_LOCK=off" not in done.stderr


async def test_a_boot_makes_its_lock_of_it_and_later_ones_see_what_is_gone(
    place: Place, python: Path
) -> None:
    place.origin("a", requirements__txt="thing\n")
    machine = Machine(place, str(python))
    machine.lists("a")
    first = await machine.boots(UV_DEFAULT_INDEX=NOBODY, UV_HTTP_RETRIES="0")
    assert first.failures == ()
    assert any("no index answers: versions are" in line for line in machine.progress.lines)
    assert (machine.home / "custom_nodes" / "a" / ".git").is_dir()
    again = await machine.boots(UV_DEFAULT_INDEX=NOBODY, UV_HTTP_RETRIES="0")
    assert {one.status.value for one in again.outcomes} == {"skipped"}

    lose(place, python, "thing")
    mended = await machine.boots()
    assert mended.failures == ()
    done = {one.step for one in mended.outcomes if one.status.value == "done"}
    assert "node packages" in done
    assert "requirements" not in done
    (site,) = python.parent.parent.glob("lib/python*/site-packages")
    assert list(site.glob("thing-2.0.dist-info"))


async def test_another_python_in_the_place_of_the_one_that_was_named_is_seen(
    place: Place, python: Path
) -> None:
    """As a new image brings it, beside a workspace that stays."""
    place.origin("a", requirements__txt="thing\n")
    machine = Machine(place, str(python))
    machine.lists("a")
    await machine.boots()
    python.parent.parent.rename(place.root / "old")
    wheel(place.root / "wheels", "small", "0.9")
    make(place, python, "torch==2.0", "torchvision", "torchaudio", "small==0.9")
    run = await machine.boots()
    assert run.failures == ()
    (site,) = python.parent.parent.glob("lib/python*/site-packages")
    assert list(site.glob("small-1.0.dist-info"))
    assert list(site.glob("thing-2.1.dist-info"))
