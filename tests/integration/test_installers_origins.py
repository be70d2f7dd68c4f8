"""Mirrors, allowed hosts and blocked packs, with real repositories, a real index and a real git."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

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


def mirror(person: Person) -> dict[str, str]:
    here = f"http://127.0.0.1:{person.place.port}"
    return {
        **COMFYUI,
        "COMFYUI_REPO_URL": "https://git.example.org/ComfyUI/.git",
        "MACHINE_MIRRORS": f"https://git.example.org/={here}/git/,https://models.example/={here}/",
    }


def test_everything_comes_from_mirrors_and_is_known_by_its_own_address(person: Person) -> None:
    person.place.origin("a", requirements__txt="small\n")
    entry = {"name": "a", "url": "https://git.example.org/a/.git", "requirements": True}
    nodes = {"custom_nodes": [entry]}
    root = person.place.root
    (root / "config_nodes.json").write_text(json.dumps(nodes))
    (root / "wheels" / "m").write_bytes(b"model")
    model = {"url": "https://models.example/files/m", "target": "loras/m"}
    model["sha256"] = hashlib.sha256(b"model").hexdigest()
    (root / "models.json").write_text(json.dumps([model]))
    more = {**mirror(person), "MODELS_MANIFEST": str(root / "models.json")}
    assert (done := person.calls(**more)).returncode == 0, done.stderr
    lock = parse_lock(person.path.read_text("utf-8"), person.path)
    assert [one.url for one in (lock.comfyui, *lock.packs)] == [
        "https://git.example.org/ComfyUI/.git",
        "https://git.example.org/a/.git",
    ]
    done = person.calls("--strict", command="install", **more)
    assert done.returncode == 0, done.stderr
    home = root / "ws" / "ComfyUI"
    assert (home / "models" / "loras" / "m").read_bytes() == b"model"
    assert "git.example.org" in (home / "custom_nodes" / "a" / ".git" / "config").read_text()


def test_hosts_that_are_not_allowed_are_all_told_before_anything_is_done(person: Person) -> None:
    root = person.place.root
    nodes = [
        {"name": name, "url": f"https://{host}/{name}"}
        for name, host in (("a", "git.example.org"), ("b", "evil.example"))
    ]
    (root / "config_nodes.json").write_text(json.dumps({"custom_nodes": nodes}))
    (root / "models.json").write_text(
        json.dumps([{"url": "https://models.example/m?key=s3cret", "target": "loras/m"}])
    )
    done = person.calls(
        command="install",
        MODELS_MANIFEST=str(root / "models.json"),
        MACHINE_ALLOWED_HOSTS="git.example.org",
        COMFYUI_REPO_URL="https://git.example.org/ComfyUI",
        **COMFYUI,
    )
    assert done.returncode == ExitCode.CONFIGURATION
    assert done.stderr.count("[host-not-allowed]") == 2
    assert "https://evil.example/b is of evil.example" in done.stderr
    assert "https://models.example/m is of models.example" in done.stderr
    assert "s3cret" not in done.stderr
    assert not (root / "ws" / "ComfyUI" / ".git").exists()


def test_a_requirement_of_another_host_costs_its_pack(person: Person) -> None:
    wheel_line = "x @ https://evil.example/x-1.0-py3-none-any.whl\n"
    person.place.origin("wheel", requirements__txt=wheel_line)
    person.place.origin("git", requirements__txt="y @ git+https://evil.example/y\n")
    person.place.origin("good", requirements__txt="small\n")
    person.lists("wheel", "git", "good")
    done = person.calls(MACHINE_ALLOWED_HOSTS="127.0.0.1")
    assert done.returncode == 0, done.stderr
    lock = parse_lock(person.path.read_text("utf-8"), person.path)
    assert [one.name for one in lock.installed] == ["good"]
    assert done.stderr.count("its host is not allowed") == 2


def test_git_itself_goes_to_no_other_host_for_a_submodule(person: Person) -> None:
    outer = person.place.origin("outer", x__py="")
    module = '[submodule "m"]\n\tpath = m\n\turl = https://evil.example/m\n'
    (outer.folder / ".gitmodules").write_text(module)
    outer.git("update-index", "--add", "--cacheinfo", f"160000,{'ab' * 20},m")
    outer.git("add", ".gitmodules")
    outer.git("commit", "-qm", "module")
    person.lists("outer", recursive=True)
    done = person.calls(
        command="install",
        MACHINE_ALLOWED_HOSTS=f"127.0.0.1:{person.place.port},127.0.0.1",
        **COMFYUI,
    )
    assert "not-in-machine-allowed-hosts.invalid" in done.stderr
    assert not (person.place.root / "ws/ComfyUI/custom_nodes/outer").exists()


def test_commits_only_wants_a_lock_or_commits(person: Person) -> None:
    person.place.origin("a", requirements__txt="small\n")
    person.lists("a")
    more = {"MACHINE_COMMITS_ONLY": "true", **COMFYUI}
    done = person.calls(command="install", **more)
    assert done.returncode == ExitCode.CONFIGURATION
    assert done.stderr.count("[commit-wanted]") == 2
    assert "machine-lifecycle lock" in done.stderr
    assert person.calls(**more).returncode == 0
    done = person.calls("--strict", command="install", **more)
    assert done.returncode == 0, done.stderr


def test_a_blocked_pack_is_neither_locked_nor_installed(person: Person) -> None:
    for name in ("a", "b"):
        person.place.origin(name, requirements__txt="small\n")
    person.lists("a", "b")
    assert person.calls().returncode == 0
    blocked = person.place.root / "blocked.txt"
    blocked.write_text("a  # it talks too much\n")
    more = {"MACHINE_BLOCKED_PACKS": str(blocked), **COMFYUI}
    # The lock is older than the list of blocked packs.
    done = person.calls("--strict", command="install", **more)
    assert done.returncode == ExitCode.BOOT_FAILED
    assert "a is blocked: it talks too much" in done.stderr
    packs = person.place.root / "ws" / "ComfyUI" / "custom_nodes"
    assert [path.name for path in packs.iterdir() if not path.name.startswith(".")] == ["b"]
    person.path.unlink()
    locked = person.calls(**more)
    assert "left out: a: blocked" in locked.stderr
    lock = parse_lock(person.path.read_text("utf-8"), person.path)
    assert [one.name for one in lock.installed] == ["b"]


def test_a_blocked_version_of_a_package_is_not_taken(person: Person) -> None:
    for version in ("8.3.40", "8.3.41"):
        wheel(person.place.root / "wheels", "ultralytics", version)
    wheel(person.place.root / "wheels", "spyware", "1.0")
    person.place.origin("a", requirements__txt="ultralytics\n")
    person.place.origin("b", requirements__txt="spyware\n")
    person.lists("a", "b")
    own = person.place.root / "own.txt"
    own.write_text("spyware == 0  # ours\n")
    done = person.calls(MACHINE_BLOCKED_PACKAGES=str(own))
    assert done.returncode == 0, done.stderr
    lock = parse_lock(person.path.read_text("utf-8"), person.path)
    versions = {one.name: one.version for one in lock.packages}
    assert versions["ultralytics"] == "8.3.40"
    assert "spyware" not in versions
    assert [one.pack for one in lock.quarantined] == ["b"]
