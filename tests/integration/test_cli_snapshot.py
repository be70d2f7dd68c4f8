"""``machine-lifecycle snapshot``: from an installation of anybody's to one that can be repeated."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from uv import find_uv_bin

from machine_lifecycle.errors import ExitCode
from machine_lifecycle.installers.lock import parse_lock
from tests.benchmarks.installing.world import wheel
from tests.support.lock_bed import served
from tests.support.person import Person

COMFYUI = {"WORKERS": "comfyui:1"}


@pytest.fixture
def person(tmp_path: Path) -> Iterator[Person]:
    with served(tmp_path) as place:
        yield Person(place)


def installed(person: Person) -> Path:
    """Two packs of a list, one that somebody cloned beside, and odds and ends; the folder."""
    person.place.origin("a", requirements__txt="thing<2.1\n", code__py="x = 1\n")
    person.place.origin("b", requirements__txt="looks\n")
    person.lists("a", "b", env={"TOKEN": "${TOKEN}"}, required=True)
    done = person.calls("--strict", command="install", **COMFYUI)
    assert done.returncode == 0, done.stderr
    packs = person.place.root / "ws" / "ComfyUI" / "custom_nodes"
    extra = person.place.origin("extra", requirements__txt="small\n")
    subprocess.run(["git", "clone", "-q", extra.url, packs / "extra"], check=True)  # noqa: S607
    (packs / "by-hand").mkdir()
    (packs / "by-hand" / "__init__.py").write_text("")
    (packs / "one.py").write_text("")
    (packs / "a" / "code.py").write_text("x = 2\n")
    return packs


def add_package(person: Person, name: str) -> None:
    """A package that no index has."""
    own = person.place.root / "own"
    own.mkdir()
    wheel(own, name, "1.0")
    python = person.place.root / "ws" / "ComfyUI" / "venv" / "bin" / "python"
    words = ("pip", "install", "-q", "--no-index", "-f", str(own), "--python", str(python), name)
    subprocess.run([find_uv_bin(), *words], check=True)


def came_from(person: Person, package: str, url: str) -> None:
    """Write down of a package what pip and uv write down of one that they got from there."""
    (facts,) = person.place.root.glob(f"ws/ComfyUI/venv/lib/*/*/{package}.dist-info")
    (facts / "direct_url.json").write_text(json.dumps({"url": url, "archive_info": {}}))


def test_what_is_there_becomes_a_list_and_a_lock_that_install_the_same(person: Person) -> None:
    installed(person)
    add_package(person, "homemade")
    new = person.place.root / "new" / "nodes.json"
    dry = person.calls(str(new), "--dry-run", command="snapshot", **COMFYUI)
    assert dry.returncode == 0, dry.stderr
    assert not new.parent.exists()
    beneath = person.place.root / "config_nodes.json" / "nodes.json"
    refused = person.calls(str(beneath), command="snapshot", **COMFYUI)
    assert refused.returncode == ExitCode.CONFIGURATION
    assert f"{beneath} can't be written: " in refused.stderr
    assert "[file-not-written]" in refused.stderr
    done = person.calls(str(new), command="snapshot", **COMFYUI)
    assert done.returncode == 0, done.stderr
    for told in (
        "! by-hand is no clone of a repository",
        "! one.py is a single file",
        "! pack a has changed files: code.py",
        "! no index has homemade 1.0: it is locked without a hash",
    ):
        assert told in done.stdout
    nodes = json.loads(new.read_text())["custom_nodes"]
    assert [one["name"] for one in nodes] == ["a", "b", "extra"]
    assert nodes[0]["env"] == {"TOKEN": "${TOKEN}"}
    assert nodes[0]["required"] is True
    assert all(len(one["commit"]) == 40 and one["requirements"] for one in nodes)
    path = new.with_name("nodes.lock.json")
    lock = parse_lock(path.read_text("utf-8"), path)
    versions = {one.name: one.version for one in lock.packages}
    assert versions["thing"] == "2.0"
    assert versions["torch"] == "2.0"
    assert {one.name for one in lock.packages if not one.hashes} == {"homemade"}
    by = {one.name: one.wanted_by for one in lock.packages}
    assert by["thing"] == ("pack:a",)
    assert by["small"] == ("pack:comfyui", "pack:extra")
    assert by["looks"] == ("pack:b",)
    # Whole files are never lost.
    again = person.calls(str(new), command="snapshot", **COMFYUI)
    assert (again.returncode, "snapshot-in-the-way" in again.stderr) == (2, True)
    forced = person.calls(str(new), "--force", "--json", command="snapshot", **COMFYUI)
    assert json.loads(forced.stdout)["digest"] == lock.digest

    # Torch of a Python that is named is no part of a lock.
    python = str(person.place.root / "ws" / "ComfyUI" / "venv" / "bin" / "python")
    named = person.calls(
        "named.json", command="snapshot", COMFYUI_PYTHON=python, CONFIG_NODES_PATH="", **COMFYUI
    )
    assert named.returncode == 0, named.stderr
    found = person.place.root / "named.lock.json"
    without = parse_lock(found.read_text("utf-8"), found)
    assert without.torch == "found"
    assert not {"torch", "torchvision"} & {one.name for one in without.packages}

    # Another machine, which can have what the index has.
    lock_without = [one for one in lock.packages if one.name != "homemade"]
    assert len(lock_without) == len(lock.packages) - 1
    other = {
        **COMFYUI,
        "CONFIG_NODES_PATH": str(new),
        "WORKSPACE_PATH": str(person.place.root / "ws2"),
        "UV_FIND_LINKS": str(person.place.root / "own"),
    }
    check = person.calls("--check", command="lock", **other)
    assert check.returncode == 0, check.stderr
    made = person.calls("--strict", command="install", **other)
    assert made.returncode == 0, made.stderr
    proof = person.calls(command="verify", **other)
    assert proof.returncode == 0, proof.stderr
    assert (person.place.root / "ws2" / "ComfyUI" / "custom_nodes" / "extra" / ".git").exists()


def test_where_a_package_is_from_is_told_without_credentials(person: Person) -> None:
    installed(person)
    add_package(person, "homemade")
    address = "https://example.org/homemade-1.0-py3-none-any.whl"
    came_from(person, "homemade-1.0", f"{address}?token=s3cret")
    new = person.place.root / "nodes.json"
    done = person.calls(str(new), "--force", command="snapshot", **COMFYUI)
    assert done.returncode == 0, done.stderr
    assert "! package homemade: the credentials in its address are left out" in done.stdout
    text = new.with_name("nodes.lock.json").read_text("utf-8")
    assert (address in text, "s3cret" in text) == (True, False)
    settings = {**COMFYUI, "CONFIG_NODES_PATH": str(new)}
    same = person.calls(command="verify", **settings)
    assert "homemade" not in same.stdout + same.stderr
    came_from(person, "homemade-1.0", "https://example.org/other-1.0-py3-none-any.whl?token=s3cret")
    other = person.calls(command="verify", **settings)
    told = other.stdout + other.stderr
    assert f"package homemade is of {address.replace('homemade-', 'other-')}, not of" in told
    assert "s3cret" not in told


def test_there_may_be_nothing(person: Person) -> None:
    done = person.calls("new.json", command="snapshot", **COMFYUI)
    assert done.returncode == ExitCode.CONFIGURATION
    assert "snapshot-of-nothing" in done.stderr
    assert "export WORKSPACE_PATH" in done.stderr
