"""Taking a clone elsewhere, with the real git: what is kept and refused, what a kill leaves."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from machine_lifecycle.installers.command import CommandRunner, Journal, Redactor
from machine_lifecycle.installers.git import bring
from machine_lifecycle.installers.git_errors import FilesChanged, FolderInTheWay, GitCloneFailed
from machine_lifecycle.installers.repository import Repository, git_environment
from machine_lifecycle.model.installing import StepContext
from tests.support.git_server import Origin

ENV = {
    "PATH": os.defpath + ":/usr/local/bin",
    "GIT_CONFIG_COUNT": "1",
    "GIT_CONFIG_KEY_0": "protocol.file.allow",  # submodules of local repositories need it
    "GIT_CONFIG_VALUE_0": "always",
}
Bring = Callable[..., Awaitable[str]]


@pytest.fixture
def fork(tmp_path: Path) -> Origin:
    return Origin(tmp_path / "fork", a="fork", only_fork="1")


@pytest.fixture
def upstream(tmp_path: Path) -> Origin:
    made = Origin(tmp_path / "upstream", a="upstream", only_upstream="1")
    made.git("checkout", "--quiet", "-b", "dev")
    made.commit(a="dev")
    made.git("checkout", "--quiet", "master")
    return made


@pytest.fixture
def there(tmp_path: Path) -> Path:
    return tmp_path / "there"


@pytest.fixture
def take(tmp_path: Path, there: Path) -> Bring:
    """Takes the clone to a repository."""
    run = CommandRunner(
        log=tmp_path / "log",
        journal=Journal(tmp_path / "journal"),
        redact=Redactor(),
        report=lambda _: None,
    )
    ctx = StepContext(report=lambda _: None, run_command=run)

    async def to(url: str, target: Path = there, **more: Any) -> str:
        repository = Repository(url=url, **more)
        return await bring(ctx, repository, target, git_environment(ENV, repository))

    return to


def put(folder: Path, name: str, text: str = "mine") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def git(folder: Path, *words: str) -> str:
    argv = ["git", "-c", "user.name=a", "-c", "user.email=a@b", *words]
    env = {**ENV, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1"}
    return subprocess.run(
        argv, cwd=folder, env=env, check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.mark.parametrize("prefix", ["", "file://"])
async def test_another_address_is_fetched_into_the_same_clone_and_the_users_files_stay(
    fork: Origin, upstream: Origin, there: Path, take: Bring, prefix: str
) -> None:
    await take(prefix + fork.url)
    kept = [
        put(there, name)
        for name in ("models/checkpoints/big.safetensors", "custom_nodes/Pack/node.py", "output/a")
    ]
    assert await take(prefix + upstream.url) == upstream.git("rev-parse", "HEAD")
    assert (there / "a").read_text() == "upstream"
    assert (there / "only_upstream").exists()
    assert not (there / "only_fork").exists()
    assert all(path.read_text() == "mine" for path in kept)
    assert git(there, "config", "remote.origin.url") == prefix + upstream.url
    assert git(there, "status", "--porcelain", "--untracked-files=no") == ""
    # And back, onto a commit.
    first = fork.git("rev-parse", "HEAD")
    fork.commit(a="later")
    assert await take(prefix + fork.url, commit=first) == first
    assert (there / "a").read_text() == "fork"


async def test_a_branch_a_pin_and_back_to_the_default(
    upstream: Origin, there: Path, take: Bring
) -> None:
    await take(upstream.url)
    await take(upstream.url, branch="dev")
    assert (there / "a").read_text() == "dev"
    # Nothing wanted any more is the remote's default, not what happens to be there.
    newest = upstream.commit(a="newer")
    assert await take(upstream.url) == newest
    assert (there / "a").read_text() == "newer"
    first = upstream.git("rev-parse", "HEAD~1")
    assert await take(upstream.url, commit=first[:10]) == first
    assert await take(upstream.url) == newest
    assert git(there, "symbolic-ref", "--short", "HEAD") == "master"


async def test_a_tag_is_taken_like_a_branch(upstream: Origin, there: Path, take: Bring) -> None:
    upstream.git("tag", "v1")
    tagged = upstream.git("rev-parse", "HEAD")
    upstream.commit(a="newer")
    assert await take(upstream.url, branch="v1") == tagged
    assert await take(upstream.url, branch="v1") == tagged
    await take(upstream.url)
    assert (there / "a").read_text() == "newer"
    assert await take(upstream.url, branch="v1") == tagged


async def test_a_clone_that_somebody_else_made_is_used_as_it_is(
    tmp_path: Path, upstream: Origin, there: Path, take: Bring
) -> None:
    git(tmp_path, "clone", "--quiet", upstream.url, str(there))
    before = upstream.git("rev-parse", "HEAD")
    newer = upstream.commit(a="newer")
    assert await take(upstream.url + "/") == before
    assert await take(upstream.url, branch="dev") == upstream.git("rev-parse", "dev")
    assert await take(upstream.url) == newer
    # With all of its history, which it keeps.
    assert not (there / ".git" / "shallow").exists()


async def test_files_changed_by_hand_are_named_and_nothing_is_touched(
    fork: Origin, upstream: Origin, there: Path, take: Bring
) -> None:
    await take(fork.url)
    put(there, "a", "by hand")
    for more in ({}, {"commit": fork.commit(a="2")}):
        with pytest.raises(FilesChanged) as caught:
            await take(fork.url if more else upstream.url, **more)
        assert caught.value.files == ("a",)
        assert f"git -C {there} stash" in str(caught.value)
    assert (there / "a").read_text() == "by hand"
    assert git(there, "config", "remote.origin.url") == fork.url
    git(there, "stash")
    await take(upstream.url)
    assert (there / "a").read_text() == "upstream"


async def test_commits_of_ones_own_are_not_lost(
    fork: Origin, upstream: Origin, there: Path, take: Bring
) -> None:
    await take(fork.url)
    put(there, "a", "by hand")
    git(there, "commit", "--quiet", "-am", "mine")
    mine = git(there, "rev-parse", "HEAD")
    assert await take(fork.url) == mine  # what is wanted is there, with more on top
    with pytest.raises(FilesChanged) as caught:
        await take(upstream.url)
    assert caught.value.commits == (mine,)
    (remedy,) = caught.value.remedies
    assert remedy.command is not None
    await (await asyncio.create_subprocess_shell(remedy.command)).wait()
    await take(upstream.url)
    assert git(there, "rev-parse", f"kept-{mine[:8]}") == mine


@pytest.mark.parametrize("ignore", ["", "only_upstream\n"])
async def test_files_that_the_other_commit_would_overwrite_are_named(
    fork: Origin, upstream: Origin, there: Path, take: Bring, ignore: str
) -> None:
    fork.commit(__gitignore=ignore + "other\n")
    await take(fork.url)
    mine = put(there, "only_upstream")
    with pytest.raises(FolderInTheWay, match="only_upstream") as caught:
        await take(upstream.url)
    assert mine.read_text() == "mine"
    assert (there / "a").read_text() == "fork"
    assert caught.value.remedies[0].command == f"mv {mine} {mine}.aside"


async def test_a_repository_that_was_never_cloned_is_left_alone(
    upstream: Origin, there: Path, take: Bring
) -> None:
    Origin(there, a="own")
    with pytest.raises(FolderInTheWay, match="no clone"):
        await take(upstream.url)
    assert (there / "a").read_text() == "own"


async def test_a_dead_address_leaves_the_clone_as_it_was(
    tmp_path: Path, fork: Origin, there: Path, take: Bring
) -> None:
    head = await take(fork.url)
    with pytest.raises(GitCloneFailed):
        await take(str(tmp_path / "nothing"))
    assert await take(fork.url) == head
    assert git(there, "config", "remote.origin.url") == fork.url


async def test_a_switch_that_was_cut_short_is_done_again(
    fork: Origin, upstream: Origin, there: Path, take: Bring
) -> None:
    await take(fork.url)
    big = put(there, "models/big")
    # As a kill in the checkout leaves it: the mark, a lock, half of the other commit's files.
    (there / ".git" / "machine-lifecycle-update").touch()
    (there / ".git" / "index.lock").touch()
    put(there, "a", "upstr")
    put(there, "only_upstream", "")
    assert await take(upstream.url) == upstream.git("rev-parse", "HEAD")
    assert (there / "only_upstream").read_text() == "1"
    assert git(there, "status", "--porcelain") == "?? models/"
    assert big.read_text() == "mine"


async def test_submodules_follow(tmp_path: Path, take: Bring, there: Path) -> None:
    for name in ("one", "two"):
        inner = Origin(tmp_path / f"inner-{name}", b=name)
        outer = Origin(tmp_path / f"outer-{name}", a=name)
        outer.git("submodule", "--quiet", "add", inner.url, "sub")
        outer.commit(c=name)
        await take(outer.url, recursive=True)
        assert (there / "sub" / "b").read_text() == name
