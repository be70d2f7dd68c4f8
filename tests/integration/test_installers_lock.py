"""Locks made of real repositories, wheels and the real solver, over loopback."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from machine_lifecycle.installers.commits import Commits
from machine_lifecycle.installers.compiling import Fault
from machine_lifecycle.installers.git_errors import GitCloneFailed
from machine_lifecycle.installers.lock import Lock, changes, parse_lock
from machine_lifecycle.installers.lock_errors import LockImpossible, LockUnreadable, PackImpossible
from machine_lifecycle.installers.locking import differences
from machine_lifecycle.installers.sources import commit_of
from tests.benchmarks.installing.world import wheel
from tests.support.lock_bed import Place, served


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with served(tmp_path) as made:
        yield made


def versions(lock: Lock) -> dict[str, str]:
    return {one.name: one.version or one.url for one in lock.packages}


async def test_a_lock_has_commits_versions_and_hashes_and_reads_back_as_it_was(
    place: Place, tmp_path: Path
) -> None:
    first = place.origin("a", requirements__txt="thing<2.1\nnumpy<1.24>=1.18\n-r more.txt\n")
    commit = first.commit(more__txt="looks\n")
    place.origin("b", requirements__txt="--trusted-host x\n")
    lock = await place.lock(place.wanted(place.pack("a"), place.pack("b")))
    assert lock.packs[0].commit == commit
    assert lock.packs[0].tree == first.git("rev-parse", "HEAD^{tree}")
    assert [(line.place, line.text) for line in lock.packs[0].refused] == [
        ("requirements.txt:2", "numpy<1.24>=1.18")
    ]
    assert [line.why for line in lock.packs[1].refused] == ["option"]
    assert versions(lock) == {
        "looks": "1.0",
        "opencv-python-headless": "4.0",
        "pip": "1.0",
        "small": "1.0",
        "thing": "2.0",
        "torch": "2.0",
        "torchaudio": "1.0",
        "torchvision": "1.0",
    }
    assert all(one.hashes for one in lock.packages)
    assert {one.name: one.wanted_by for one in lock.packages}["thing"] == ("pack:a",)
    again = parse_lock(lock.text(), tmp_path / "lock.json")
    assert again == lock
    assert again.text() == lock.text()


async def test_the_same_input_gives_the_same_lock(place: Place) -> None:
    place.origin("a", requirements__txt="looks\nthing\n")
    wanted = place.wanted(place.pack("a"))
    assert (await place.lock(wanted)).text() == (await place.lock(wanted)).text()


async def test_branches_and_tags_become_commits(place: Place) -> None:
    origin = place.origin("a", requirements__txt="small")
    tagged = origin.git("rev-parse", "HEAD")
    origin.git("tag", "-a", "v1", "-m", "one")
    origin.git("checkout", "-q", "-b", "dev")
    dev = origin.commit(x="1")
    origin.git("checkout", "-q", "master")
    newest = origin.commit(x="2")
    where = place.pack("a").repository
    wanted: dict[str, dict[str, Any]] = {
        "default": {},
        "tag": {"branch": "v1"},
        "branch": {"branch": "dev"},
        "short": {"commit": tagged[:9]},
        "full": {"commit": tagged},
    }
    packs = [
        attrs.evolve(place.pack("a"), name=name, repository=attrs.evolve(where, **more))
        for name, more in wanted.items()
    ]
    lock = await place.lock(place.wanted(*packs))
    assert {one.name: one.commit for one in lock.packs} == {
        "default": newest,
        "tag": tagged,
        "branch": dev,
        "short": tagged,
        "full": tagged,
    }


async def test_a_repository_in_a_line_is_pinned(place: Place) -> None:
    build = '[build-system]\nrequires=[]\nbuild-backend="b"\nbackend-path=["."]\n'
    origin = place.origin("lib", b__py=_BACKEND.replace("BUILD", ""), pyproject__toml=build)
    commit = origin.git("rev-parse", "HEAD")
    origin.commit(later="1")
    origin.git("branch", "stable", commit)
    place.origin("a", requirements__txt="lib @ git+https://example.org/lib/.git@stable\n")
    lock = await place.lock(place.wanted(place.pack("a")))
    assert versions(lock)["lib"] == f"git+https://example.org/lib/.git@{commit}"
    assert "lib" in lock.built
    assert {one.name for one in lock.needed_by("a")} == {"lib"}


_BACKEND = """
import os, zipfile
FACTS = "Metadata-Version: 2.1\\nName: lib\\nVersion: 1\\n"
def prepare_metadata_for_build_wheel(folder, config_settings=None):
    os.makedirs(folder + "/lib-1.dist-info")
    open(folder + "/lib-1.dist-info/METADATA", "w").write(FACTS)
    open(folder + "/lib-1.dist-info/WHEEL", "w").write("Wheel-Version: 1.0\\nTag: py3-none-any\\n")
    return "lib-1.dist-info"
def build_wheel(folder, config_settings=None, metadata_directory=None):
    BUILD
    name = "lib-1-py3-none-any.whl"
    with zipfile.ZipFile(os.path.join(folder, name), "w") as wheel:
        wheel.writestr("lib-1.dist-info/METADATA", FACTS)
        wheel.writestr("lib-1.dist-info/WHEEL", "Wheel-Version: 1.0\\nTag: py3-none-any\\n")
        wheel.writestr("lib-1.dist-info/RECORD", "")
    return name
"""


@pytest.mark.parametrize("named", ["lib @ ", ""])
async def test_a_pack_that_needs_what_can_not_be_built_is_left_out(
    place: Place, named: str
) -> None:
    build = '[build-system]\nrequires=[]\nbuild-backend="b"\nbackend-path=["."]\n'
    broken = _BACKEND.replace("BUILD", "raise SystemExit('no portaudio.h')")
    place.origin("lib", b__py=broken, pyproject__toml=build)
    place.origin("a", requirements__txt=f"thing>=2.1\n{named}git+https://example.org/lib/.git\n")
    place.origin("b", requirements__txt="thing<2.1\n")
    lock = await place.lock(place.wanted(place.pack("a"), place.pack("b")))
    (out,) = lock.quarantined
    assert (out.pack, out.fault, out.against) == ("a", Fault.BUILD, ())
    assert out.told[0] == "lib can't be built:"
    assert "no portaudio.h" in "\n".join(out.told)
    # What b lost to a before, it has again.
    assert versions(lock)["thing"] == "2.0"
    assert "lib" not in versions(lock)


async def test_packs_that_can_not_be_had_are_left_out_by_name_and_the_rest_goes_on(
    place: Place,
) -> None:
    place.origin("a", requirements__txt="thing>=2.1")
    place.origin("b", requirements__txt="thing<2.1")
    place.origin("greedy", requirements__txt="torch>=2.1")
    place.origin("c", requirements__txt="small\nnowhere-to-be-found")
    names = ("a", "b", "gone", "greedy", "c")
    lock = await place.lock(place.wanted(*(place.pack(name) for name in names)))
    assert [(one.pack, one.fault, one.against) for one in lock.quarantined] == [
        ("b", Fault.CONFLICT, ("a",)),
        ("gone", Fault.SOURCE, ()),
        ("greedy", Fault.CONFLICT, ()),
    ]
    assert [one.name for one in lock.installed] == ["a", "c"]
    assert [line.why for line in lock.packs[-1].refused] == ["not-on-index"]
    assert versions(lock)["thing"] == "2.1"
    assert versions(lock)["torch"] == "2.0"


async def test_a_required_pack_is_not_left_out(place: Place) -> None:
    place.origin("a", requirements__txt="torch>=2.1")
    with pytest.raises(PackImpossible) as caught:
        await place.lock(place.wanted(place.pack("a", required=True)))
    assert caught.value.pack == "a"
    assert any("torch" in line for line in caught.value.context)


async def test_families_come_down_to_one(place: Place) -> None:
    place.origin("a", requirements__txt="looks\nopencv-contrib-python>=4\nonnxruntime-gpu\n")
    place.origin("b", requirements__txt="onnxruntime")
    wanted = place.wanted(place.pack("a"), place.pack("b"))
    lock = await place.lock(wanted)
    found = {name for name in versions(lock) if "opencv" in name or "onnx" in name}
    assert found == {"opencv-contrib-python-headless", "onnxruntime"}
    assert [(one.family, one.took) for one in lock.collapsed] == [
        ("opencv", "opencv-contrib-python-headless"),
        ("onnxruntime", "onnxruntime"),
    ]
    assert "onnxruntime-gpu" in versions(await place.lock(attrs.evolve(wanted, gpu=True)))


async def test_what_is_locked_is_kept_until_an_upgrade(place: Place, tmp_path: Path) -> None:
    origins = [place.origin(name, requirements__txt="thing") for name in ("a", "b")]
    wanted = place.wanted(place.pack("a"), place.pack("b"))
    first = await place.lock(wanted)
    moved = [origin.commit(x="1") for origin in origins]
    wheel(tmp_path / "wheels", "thing", "3.0", [])
    assert await place.lock(wanted, first) == first
    one = await place.lock(wanted, first, ("b",))
    assert [pack.commit for pack in one.packs] == [first.packs[0].commit, moved[1]]
    assert versions(one)["thing"] == "2.1"
    said = changes(first, one)
    assert said == (f"~ pack b {first.packs[1].commit[:12]} -> {moved[1][:12]}",)
    all_of_it = await place.lock(wanted, first, None)
    assert [pack.commit for pack in all_of_it.packs] == moved
    assert "~ package thing 2.1 -> 3.0" in changes(first, all_of_it)


async def test_torch_that_is_there_is_asked_of_nobody(place: Place) -> None:
    place.origin("a", requirements__txt="torch==1.13\n")
    place.origin("b", requirements__txt="torch>=2\nsmall\n")
    wanted = place.wanted(
        place.pack("a"), place.pack("b"), torch="found", versions={"torch": "2.0.1+cu118"}
    )
    lock = await place.lock(wanted)
    assert [(one.pack, one.fault) for one in lock.quarantined] == [("a", Fault.CONFLICT)]
    assert lock.quarantined[0].told == (
        "requirements.txt:1: torch==1.13; torch 2.0.1+cu118 is there",
    )
    assert "torch" not in versions(lock)


async def test_a_lock_says_in_what_it_is_not_that_of_the_list(place: Place) -> None:
    place.origin("a", requirements__txt="")
    wanted = place.wanted(place.pack("a"))
    lock = await place.lock(wanted)
    assert differences(lock, wanted) == ()
    other = place.wanted(place.pack("a", branch="dev"), place.pack("b"), torch="cpu")
    assert differences(lock, other) == (
        "torch is not said, cpu is wanted",
        "pack b is not locked",
        "pack a is listed otherwise than it was locked",
    )
    assert differences(lock, place.wanted()) == ("pack a is no longer listed",)


async def test_what_was_fetched_is_not_fetched_again(place: Place) -> None:
    origin = place.origin("a", requirements__txt="small")
    wanted = place.wanted(place.pack("a", commit=origin.git("rev-parse", "HEAD")))
    first = await place.lock(wanted)
    origin.folder.rename(place.root / "away")
    assert await place.lock(wanted, first) == first


async def test_comfyui_itself_that_can_not_be_had_is_no_lock(place: Place) -> None:
    with pytest.raises(GitCloneFailed):
        await place.lock(attrs.evolve(place.wanted(), comfyui=place.pack("nowhere").repository))
    with pytest.raises(LockImpossible) as caught:
        await place.lock(place.wanted(also=("nowhere-to-be-found",)))
    assert caught.value.fault == "not-on-index"


async def test_a_lock_that_was_changed_by_hand_is_refused(place: Place, tmp_path: Path) -> None:
    text = (await place.lock(place.wanted())).text()
    values = json.loads(text)
    path = tmp_path / "lock.json"
    for broken in (
        text[:-40],
        text.replace('"version": "2.0"', '"version": "6.6"'),
        json.dumps({**values, "format": 99}),
        json.dumps({**values, "packs": 1}),
        "[]",
    ):
        with pytest.raises(LockUnreadable):
            parse_lock(broken, path)


def test_what_ls_remote_says() -> None:
    sha = [letter * 40 for letter in "abcd"]
    listed = (
        f"{sha[0]}\tHEAD\n{sha[1]}\trefs/heads/v1\n{sha[2]}\trefs/tags/v1\n"
        f"{sha[2]}\trefs/tags/v2\n{sha[3]}\trefs/tags/v2^{{}}\n"
    )
    assert [commit_of(listed, name) for name in ("", "v1", "v2", "v3")] == [
        sha[0],
        sha[1],
        sha[3],
        "",
    ]


async def test_credentials_in_a_line_do_not_get_into_the_lock(place: Place) -> None:
    lines = (
        "tool @ git+https://robot:s3cret@example.org/tool\n--index-url https://s3cret@h/\nsmall\n"
        "https://example.org/dl/tool-1.0-py3-none-any.whl?token=s3cret\n"
    )
    place.origin("a", requirements__txt=lines)
    lock = await place.lock(place.wanted(place.pack("a")))
    assert "s3cret" not in lock.text()
    assert [one.why for one in lock.packs[0].refused] == ["login", "option", "login"]
    assert lock.packs[0].refused[0].text == "tool @ git+https://***@example.org/tool"
    assert lock.quarantined == ()


@pytest.mark.parametrize("what", ["HEAD", "HEAD^{tree}", "HEAD:requirements.txt"])
async def test_a_commit_that_is_kept_damaged_is_fetched_again(place: Place, what: str) -> None:
    origin = place.origin("a", requirements__txt="thing<2.1\n")
    wanted = place.wanted(place.pack("a"))
    before = await place.lock(wanted)
    kept = Commits(place.root / "cache").place(place.pack("a").repository)
    name = origin.git("rev-parse", what)
    path = kept / "objects" / name[:2] / name[2:]
    path.chmod(0o600)
    path.write_bytes(b"")
    assert await place.lock(wanted) == before
    assert versions(before)["thing"] == "2.0"
    assert path.stat().st_size > 0
