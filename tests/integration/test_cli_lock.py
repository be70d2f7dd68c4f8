"""``machine-lifecycle lock``, as a person calls it."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from machine_lifecycle.errors import ExitCode
from machine_lifecycle.installers.lock import parse_lock
from tests.support.lock_bed import served
from tests.support.person import Person


@pytest.fixture
def person(tmp_path: Path) -> Iterator[Person]:
    with served(tmp_path) as place:
        yield Person(place)


def test_a_lock_is_made_kept_and_told(person: Person) -> None:
    person.place.origin("a", requirements__txt="thing>=2.1\nscipy.signal\n")
    person.place.origin("b", requirements__txt="thing<2.1\n")
    person.lists("a", "b")
    done = person.calls()
    assert done.returncode == 0, done.stderr
    assert "! a requirements.txt:2: scipy.signal: scipy.signal is a module" in done.stdout
    assert "! pack b is left out: conflict, not together with a" in done.stdout
    assert "+ package thing 2.1" in done.stdout
    assert "left out: b beside a: conflict" in done.stderr
    lock = parse_lock(person.path.read_text("utf-8"), person.path)
    assert [one.name for one in lock.installed] == ["a"]
    assert str(person.place.root) not in person.path.read_text("utf-8")
    again = person.calls()
    assert "stays the lock" in again.stdout
    assert person.path.read_text("utf-8") == lock.text()


def test_check_asks_nobody_and_fails_for_another_list(person: Person) -> None:
    person.place.origin("a", requirements__txt="small")
    person.lists("a")
    missing = person.calls("--check")
    assert (missing.returncode, missing.stdout) == (ExitCode.CONFIGURATION, "")
    assert "lock-stale" in missing.stderr
    assert person.calls().returncode == 0
    good = person.calls("--check", "--json")
    assert (good.returncode, json.loads(good.stdout)["stale"]) == (0, False)
    person.lists("a", branch="dev")
    stale = person.calls("--check")
    assert stale.returncode == ExitCode.CONFIGURATION
    assert "pack a is listed otherwise than it was locked" in stale.stderr


def test_dry_run_and_upgrade(person: Person) -> None:
    origins = [person.place.origin(name, requirements__txt="small") for name in ("a", "b")]
    person.lists("a", "b")
    assert person.calls().returncode == 0
    before = person.path.read_text("utf-8")
    moved = [origin.commit(x="1") for origin in origins]
    assert "stays the lock" in person.calls().stdout
    tried = person.calls("--upgrade", "--dry-run")
    assert f"-> {moved[0][:12]}" in tried.stdout
    assert f"-> {moved[1][:12]}" in tried.stdout
    assert person.path.read_text("utf-8") == before
    one = person.calls("--upgrade", "b", "--json")
    told = json.loads(one.stdout)
    assert told["written"] is True
    assert [line.split()[2] for line in told["changes"]] == ["b"]
    lock = parse_lock(person.path.read_text("utf-8"), person.path)
    assert told["digest"] == lock.digest
    assert lock.packs[1].commit == moved[1]
    assert lock.packs[0].commit != moved[0]


def test_a_pack_that_the_list_has_not_can_not_be_upgraded(person: Person) -> None:
    person.place.origin("essentials", requirements__txt="small")
    person.lists("essentials")
    done = person.calls("--upgrade", "esentials")
    assert done.returncode == ExitCode.CONFIGURATION
    assert "lock-pack-unknown" in done.stderr
    assert "Name one of these: essentials" in done.stderr
    assert not person.path.exists()


def test_a_lock_that_can_not_be_read_or_written_says_so(person: Person) -> None:
    person.lists()
    person.path.mkdir()
    done = person.calls()
    assert done.returncode == ExitCode.CONFIGURATION
    assert "lock-unreadable" in done.stderr
    person.path.rmdir()
    person.path.with_name(f".{person.path.name}.partial").mkdir()
    done = person.calls()
    assert done.returncode == ExitCode.CONFIGURATION
    assert f"{person.path} can't be written: Is a directory [file-not-written]" in done.stderr


def test_what_was_installed_is_verified_and_mended_as_it_is_told(person: Person) -> None:
    person.place.origin("a", requirements__txt="small", code__py="x = 1\n")
    person.lists("a")
    more = {"WORKERS": "comfyui:1", "MODELS_MANIFEST": str(person.lists_model("loras/m", b"m" * 9))}

    def verify(*words: str) -> subprocess.CompletedProcess[str]:
        return person.calls(*words, command="verify", **more)

    def install() -> subprocess.CompletedProcess[str]:
        return person.calls("--strict", command="install", **more)

    none = verify()
    assert (none.returncode, none.stdout) == (ExitCode.CONFIGURATION, "")
    assert "there is no lock" in none.stderr
    assert person.calls().returncode == 0
    assert verify().returncode == ExitCode.BOOT_FAILED
    assert (done := install()).returncode == 0, done.stderr
    good = verify()
    assert (good.returncode, good.stderr) == (0, "")
    assert "ComfyUI, packs: 1," in good.stdout
    assert ", models: 1" in good.stdout

    home = person.place.root / "ws" / "ComfyUI"
    model = home / "models" / "loras" / "m"
    model.write_bytes(b"x" * 9)
    (home / "custom_nodes" / "a" / "code.py").write_text("x = 2\n")
    shutil.rmtree(next((home / "venv" / "lib").glob("python*/site-packages/small-*.dist-info")))
    bad = verify()
    assert (bad.returncode, bad.stdout) == (ExitCode.BOOT_FAILED, "")
    assert "pack a has changed files: code.py" in bad.stderr
    assert "installation-differs" in bad.stderr
    told = verify("--json")
    assert told.returncode == ExitCode.BOOT_FAILED
    value = json.loads(told.stdout)
    subjects = [one["subject"] for one in value["differences"]]
    assert (value["as_locked"], subjects) == (False, ["pack a", "package small", "model loras/m"])
    assert "Remove each model" in bad.stderr
    model.unlink()

    (home / "custom_nodes" / "a" / "code.py").write_text("x = 1\n")
    stamps = home / ".machine-lifecycle" / "stamps"
    assert f"rm -rf {stamps} && machine-lifecycle install" in bad.stderr
    shutil.rmtree(stamps)
    assert (done := install()).returncode == 0, done.stderr
    assert verify().returncode == 0


NO_NETWORK = ("unshare", "--map-root-user", "--net")
"""A namespace in which there is not even a loopback."""


def test_what_is_installed_is_found_without_a_network(person: Person) -> None:
    if subprocess.run([*NO_NETWORK, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this kernel gives no namespace of its own")
    names = [f"pack{number}" for number in range(8)]
    for name in names:
        person.place.origin(name, requirements__txt="small\nthing\n", install__py="")
    person.lists(*names)
    environ = {"WORKERS": "comfyui:1", "GPU_MODE": "mock"}
    first = person.calls(command="install", **environ)
    assert first.returncode == 0, first.stderr
    again = person.calls(command="install", under=NO_NETWORK, **environ)
    assert again.returncode == 0, again.stderr
    assert "all was there" in again.stdout
    # And it would be noticed: with one of them gone, there is nobody to ask.
    home = person.place.root / "ws" / "ComfyUI"
    shutil.rmtree(home / "custom_nodes" / "pack3")
    shutil.rmtree(person.place.root / "ws" / ".machine-lifecycle" / "commits")
    cut_off = person.calls("--strict", command="install", under=NO_NETWORK, **environ)
    assert cut_off.returncode == 3
    assert "left out: pack3" in cut_off.stderr
