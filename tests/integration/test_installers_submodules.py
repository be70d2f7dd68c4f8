"""Submodules: looked at when a lock is made, kept like all commits, put into clones from there."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from machine_lifecycle.installers.command import CommandRunner, Journal, Redactor
from machine_lifecycle.installers.commits import Commits
from machine_lifecycle.installers.compiling import Fault
from machine_lifecycle.installers.git import bring
from machine_lifecycle.installers.git_errors import GitCloneFailed, GitUrlRefused
from machine_lifecycle.installers.repository import Repository, git_environment
from machine_lifecycle.installers.submodules import Submodule, address
from machine_lifecycle.model.installing import StepContext
from tests.support.git_server import Origin
from tests.support.lock_bed import Place, served


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with served(tmp_path) as made:
        yield made


def has(outer: Origin, path: str, url: str, commit: str, *, name: str = "") -> str:
    """Have a submodule in a repository; the commit that has it."""
    with (outer.folder / ".gitmodules").open("a") as file:
        file.write(f'[submodule "{name or path}"]\n\tpath = {path}\n\turl = {url}\n')
    outer.git("add", ".gitmodules")
    outer.git("update-index", "--add", "--cacheinfo", f"160000,{commit},{path}")
    outer.git("commit", "-qm", f"have {path}")
    return outer.git("rev-parse", "HEAD")


def nested(place: Place) -> tuple[str, str]:
    """A pack with a submodule that has one; the pack's commit, and the inner one's."""
    inner = place.origin("inner", deep="inner").git("rev-parse", "HEAD")
    middle = has(place.origin("middle", half="middle"), "in/ner", "../../inner/.git", inner)
    return has(place.origin("outer", top="outer"), "sub", "../../middle/.git", middle), inner


async def take(place: Place, commit: str, name: str, pack: str = "outer", **environ: str) -> Path:
    """A clone of a pack, by way of the commits that were kept."""
    run = CommandRunner(
        log=place.root / "log.txt",
        journal=Journal(place.root / "journal.jsonl"),
        redact=Redactor(),
        report=lambda _: None,
    )
    repository = attrs.evolve(place.pack(pack).repository, commit=commit, recursive=True)
    env = git_environment({"PATH": os.defpath, **environ}, repository)
    ctx = StepContext(report=lambda _: None, run_command=run)
    await bring(ctx, repository, place.root / name, env, commits=Commits(place.root / "cache"))
    return place.root / name


def git(folder: Path, *words: str) -> str:
    argv = ["git", "-C", str(folder), *words]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()


async def test_what_a_lock_has_looked_at_is_asked_of_nobody_later(place: Place) -> None:
    commit, inner = nested(place)
    lock = await place.lock(place.wanted(place.pack("outer", recursive=True)))
    assert lock.quarantined == ()
    assert [path for path, _ in lock.packs[0].submodules] == ["sub"]

    (place.root / "git").rename(place.root / "away")
    clone = await take(place, commit, "clone")
    assert (clone / "sub" / "half").read_text() == "middle"
    assert (clone / "sub" / "in" / "ner" / "deep").read_text() == "inner"
    # It is to git what a clone of its own making would be, wherever it is put.
    moved = clone.rename(place.root / "moved")
    assert git(moved, "status", "--porcelain") == ""
    status = git(moved, "submodule", "status", "--recursive").splitlines()
    assert [line.split()[1] for line in status] == ["sub", "sub/in/ner"]
    assert not any(line.startswith(("+", "-")) for line in status)
    assert git(moved / "sub" / "in" / "ner", "rev-parse", "HEAD") == inner
    url = place.pack("middle").repository.url
    assert git(moved / "sub", "config", "remote.origin.url") == url
    (place.root / "cache").rename(place.root / "gone")
    assert git(moved / "sub", "fsck") == ""


async def test_a_clone_that_is_there_follows_to_submodules_that_are_kept(place: Place) -> None:
    before, _ = nested(place)
    outer = Origin.__new__(Origin)
    outer.folder = place.root / "git" / "outer"
    middle = Origin.__new__(Origin)
    middle.folder = place.root / "git" / "middle"
    clone = await take(place, before, "clone")
    half = middle.commit(half="newer")
    outer.git("update-index", "--cacheinfo", f"160000,{half},sub")
    outer.git("commit", "-qm", "newer")
    after = outer.git("rev-parse", "HEAD")
    await take(place, after, "clone")
    assert (clone / "sub" / "half").read_text() == "newer"
    (place.root / "git").rename(place.root / "away")
    assert (await take(place, after, "other") / "sub" / "half").read_text() == "newer"
    await take(place, before, "clone")
    assert (clone / "sub" / "half").read_text() == "middle"
    assert git(clone, "status", "--porcelain") == ""


async def test_a_clone_on_a_branch_takes_the_submodules_that_are_kept(place: Place) -> None:
    commit, _ = nested(place)
    await take(place, commit, "before")
    for name in ("middle", "inner"):
        (place.root / "git" / name).rename(place.root / name)
    clone = await take(place, "", "clone")
    assert (clone / "sub" / "half").read_text() == "middle"
    assert (clone / "sub" / "in" / "ner" / "deep").read_text() == "inner"
    assert git(clone, "symbolic-ref", "--short", "HEAD") == "master"
    assert git(clone, "status", "--porcelain") == ""
    # A newer commit of the branch that has the same submodule asks for none, either.
    outer = Origin.__new__(Origin)
    outer.folder = place.root / "git" / "outer"
    newer = outer.commit(top="newer")
    await take(place, newer[:12], "clone")
    assert (clone / "top").read_text() == "newer"
    assert (clone / "sub" / "half").read_text() == "middle"


async def test_a_clone_on_a_branch_whose_submodule_can_not_be_had_is_none(place: Place) -> None:
    has(place.origin("outer", top="outer"), "sub", "../../nowhere/.git", "ab" * 20)
    with pytest.raises(GitCloneFailed, match="its submodule sub"):
        await take(place, "", "clone")
    assert not (place.root / "clone").exists()


async def test_a_submodule_that_can_not_be_had_costs_its_pack_when_it_is_locked(
    place: Place,
) -> None:
    place.origin("plain", requirements__txt="small")
    has(place.origin("outer", top="outer"), "sub", "../../nowhere/.git", "ab" * 20)
    packs = [place.pack("plain"), place.pack("outer", recursive=True)]
    lock = await place.lock(place.wanted(*packs))
    (out,) = lock.quarantined
    assert (out.pack, out.fault) == ("outer", Fault.SOURCE)
    assert "its submodule sub" in out.told[-1]
    # Without its submodules, it is as good as any.
    lock = await place.lock(place.wanted(place.pack("plain"), place.pack("outer")))
    assert lock.quarantined == ()


@pytest.mark.parametrize(
    ("url", "name"),
    [("ext::sh -c id", "sub"), ("--upload-pack=id", "sub"), ("../../plain/.git", "../../hooks")],
)
async def test_a_submodule_that_would_do_harm_is_refused(place: Place, url: str, name: str) -> None:
    commit = place.origin("plain", a="1").git("rev-parse", "HEAD")
    has(place.origin("outer", top="outer"), "sub", url, commit, name=name)
    lock = await place.lock(place.wanted(place.pack("outer", recursive=True)))
    (out,) = lock.quarantined
    assert out.fault is Fault.SOURCE
    with pytest.raises(GitUrlRefused):
        await take(place, git(place.root / "git" / "outer", "rev-parse", "HEAD"), "clone")
    assert not (place.root / "clone").exists()


async def test_a_folder_of_this_machine_is_no_submodule(place: Place) -> None:
    secret = Origin(place.root / "secret", key="1")
    url = f"file://{secret.folder}"
    has(place.origin("outer", top="outer"), "sub", url, secret.git("rev-parse", "HEAD"))
    lock = await place.lock(place.wanted(place.pack("outer", recursive=True)))
    (out,) = lock.quarantined
    assert "transport 'file' not allowed" in " ".join(out.told)


async def test_what_is_not_wanted_any_more_is_forgotten_with_its_submodules(place: Place) -> None:
    nested(place)
    place.origin("plain", a="1")
    packs = [place.pack("outer", recursive=True), place.pack("plain")]
    await place.lock(place.wanted(*packs))
    commits = Commits(place.root / "cache")
    kept = [place.pack(name).repository for name in ("outer", "middle", "inner")]
    commits.forget([packs[0].repository])
    assert {path.name for path in commits.folder.glob("*.git")} == {
        commits.place(one).name for one in kept
    }
    for note in commits.folder.glob("*/submodules-*.json"):
        note.write_text('[{"na')
    commits.forget([packs[0].repository])
    assert [path.name for path in commits.folder.glob("*.git")] == [commits.place(kept[0]).name]
    commits.forget([packs[1].repository])
    assert not list(commits.folder.glob("*.git"))


@pytest.mark.parametrize(
    ("of", "url", "found"),
    [
        ("https://h/a/b.git", "https://o/c", "https://o/c"),
        ("https://h/a/b.git", "../c.git", "https://h/a/c.git"),
        ("https://h/a/b.git/", "./c", "https://h/a/b.git/c"),
        ("git@h:a/b", "../../c/d", "git@h:c/d"),
        ("git@h:b", "../c", "git@h:c"),
        ("/srv/a", "../b", "/srv/b"),
    ],
)
def test_relative_addresses(of: str, url: str, found: str) -> None:
    assert address(of, url) == found


def test_an_address_with_a_login_is_not_shown() -> None:
    one = Submodule(name="a", path="a", url="https://robot:s3cret@h/a", commit="ab" * 20)
    assert "s3cret" not in repr(one)
    assert Repository(url=one.url).plain_url == "https://h/a"
