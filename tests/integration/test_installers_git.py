"""Bringing repositories with the real git, from repositories made on disk."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from machine_lifecycle.installers.command import CommandRunner, Journal, Redactor
from machine_lifecycle.installers.errors import HostDown
from machine_lifecycle.installers.git import bring
from machine_lifecycle.installers.git_errors import (
    FolderInTheWay,
    GitCause,
    GitCloneFailed,
    GitMissing,
)
from machine_lifecycle.installers.repository import Repository, git_environment
from machine_lifecycle.model.installing import StepContext
from tests.support.git_server import Origin

ENV = {
    "PATH": os.defpath + ":/usr/local/bin",
    "GIT_CONFIG_COUNT": "1",
    "GIT_CONFIG_KEY_0": "protocol.file.allow",  # submodules of local repositories need it
    "GIT_CONFIG_VALUE_0": "always",
}


@pytest.fixture
def origin(tmp_path: Path) -> Origin:
    return Origin(tmp_path / "origin", a="1")


@pytest.fixture
def lines() -> list[str]:
    return []


@pytest.fixture
def ctx(tmp_path: Path, lines: list[str]) -> StepContext:
    run = CommandRunner(
        log=tmp_path / "log",
        journal=Journal(tmp_path / "journal"),
        redact=Redactor(),
        report=lines.append,
    )
    return StepContext(report=lines.append, run_command=run)


async def _bring(ctx: StepContext, target: Path, url: str, **more: str | bool) -> str:
    repository = Repository(url=url, **more)  # type: ignore[arg-type]  # fields by name
    return await bring(ctx, repository, target, git_environment(ENV, repository))


@pytest.mark.parametrize("prefix", ["", "file://"])
async def test_a_clone_is_whole_and_a_second_run_does_nothing(
    tmp_path: Path, origin: Origin, ctx: StepContext, prefix: str
) -> None:
    target = tmp_path / "x" / "clone"
    head = await _bring(ctx, target, prefix + str(origin.folder))
    assert (target / "a").read_text() == "1"
    assert head == origin.git("rev-parse", "HEAD")
    origin.commit(a="2")
    assert await _bring(ctx, target, prefix + str(origin.folder)) == head
    assert [path.name for path in target.parent.iterdir()] == ["clone"]


async def test_a_missing_branch_gives_the_default_one_loudly_only_where_that_will_do(
    tmp_path: Path, origin: Origin, ctx: StepContext, lines: list[str]
) -> None:
    await _bring(ctx, tmp_path / "c", str(origin.folder), branch="main", or_default=True)
    assert any("WARNING" in line and "main" in line for line in lines)
    assert (tmp_path / "c" / "a").exists()
    with pytest.raises(GitCloneFailed, match="main") as caught:
        await _bring(ctx, tmp_path / "d", str(origin.folder), branch="main")
    assert caught.value.cause is GitCause.REF
    assert not caught.value.recoverable
    assert not os.path.lexists(tmp_path / "d")  # noqa: ASYNC240 - one look at a local file


async def test_a_commit_is_pinned_whether_the_clone_is_new_or_there(
    tmp_path: Path, origin: Origin, ctx: StepContext
) -> None:
    first = origin.git("rev-parse", "HEAD")
    second = origin.commit(a="2")
    origin.commit(a="3")
    url, target = f"file://{origin.folder}", tmp_path / "c"
    assert await _bring(ctx, target, url, commit=first) == first
    assert (target / "a").read_text() == "1"
    (target / "mine.safetensors").write_text("kept")
    assert await _bring(ctx, target, url, commit=second) == second
    assert (target / "a").read_text() == "2"
    assert (target / "mine.safetensors").read_text() == "kept"
    assert await _bring(ctx, tmp_path / "short", url, commit=first[:9]) == first


async def test_a_branch_and_its_change(tmp_path: Path, origin: Origin, ctx: StepContext) -> None:
    origin.git("checkout", "--quiet", "-b", "side")
    side = origin.commit(a="side")
    origin.git("checkout", "--quiet", "master")
    url, target = f"file://{origin.folder}", tmp_path / "c"
    await _bring(ctx, target, url)
    assert (target / "a").read_text() == "1"
    assert await _bring(ctx, target, url, branch="side") == side
    assert (target / "a").read_text() == "side"


async def test_submodules_come_where_asked(
    tmp_path: Path, origin: Origin, ctx: StepContext
) -> None:
    inner = Origin(tmp_path / "inner")
    inner.commit(b="inner")
    origin.git("submodule", "--quiet", "add", str(inner.folder), "sub")
    origin.commit(c="1")
    await _bring(ctx, tmp_path / "c", f"file://{origin.folder}", recursive=True)
    assert (tmp_path / "c" / "sub" / "b").read_text() == "inner"


async def test_a_dead_address_is_named_with_what_git_said(tmp_path: Path, ctx: StepContext) -> None:
    with pytest.raises(GitCloneFailed) as caught:
        await _bring(ctx, tmp_path / "c", str(tmp_path / "nothing"))
    assert caught.value.cause is GitCause.NOT_FOUND
    assert caught.value.context
    assert str(tmp_path / "nothing") in str(caught.value.remedies[0])
    with pytest.raises(HostDown):
        await _bring(ctx, tmp_path / "c", "http://127.0.0.1:1/a.git")
    assert not (tmp_path / "c").exists()


async def test_no_git_is_an_error_of_its_own(
    tmp_path: Path, origin: Origin, ctx: StepContext
) -> None:
    repository = Repository(url=str(origin.folder))
    env = git_environment(ENV, repository) | {"PATH": str(tmp_path)}
    with pytest.raises(GitMissing):
        await bring(ctx, repository, tmp_path / "c", env)


async def test_files_of_the_user_are_kept_and_clashes_refused(
    tmp_path: Path, origin: Origin, ctx: StepContext
) -> None:
    mounted = tmp_path / "mounted"
    (mounted / "models").mkdir(parents=True)
    (mounted / "models" / "big").write_text("model")
    await _bring(ctx, mounted, str(origin.folder))
    assert (mounted / "models" / "big").read_text() == "model"
    assert (mounted / "a").read_text() == "1"
    other = tmp_path / "other"
    other.mkdir()
    (other / "a").write_text("something else")
    with pytest.raises(FolderInTheWay):
        await _bring(ctx, other, str(origin.folder))
    assert [path.name for path in other.iterdir()] == ["a"]
    assert (other / "a").read_text() == "something else"


@pytest.mark.parametrize("name", ["a", "sub"])
async def test_a_link_to_what_is_not_mounted_yet_is_kept(
    tmp_path: Path, origin: Origin, ctx: StepContext, name: str
) -> None:
    (origin.folder / "sub").mkdir(exist_ok=True)
    (origin.folder / "sub" / "file").write_text("of the repository")
    origin.commit()
    target = tmp_path / "c"
    target.mkdir()
    (target / name).symlink_to("/nowhere/models")
    with pytest.raises(FolderInTheWay, match=name):
        await _bring(ctx, target, str(origin.folder))
    assert (target / name).readlink() == Path("/nowhere/models")
    assert [path.name for path in target.iterdir()] == [name]


async def test_what_a_killed_run_left_is_repaired(
    tmp_path: Path, origin: Origin, ctx: StepContext
) -> None:
    target = tmp_path / "c"
    (tmp_path / ".c.machine-lifecycle-clone").mkdir()
    (tmp_path / ".c.machine-lifecycle-clone" / "half").write_text("")
    await _bring(ctx, target, str(origin.folder))
    new = origin.commit(a="2")
    # A checkout of ours that was cut short: a lock, a changed file, and the mark that it is ours.
    (target / ".git" / "index.lock").touch()
    (target / "a").write_text("half")
    (target / ".git" / "machine-lifecycle-update").touch()
    assert await _bring(ctx, target, str(origin.folder), commit=new) == new
    assert (target / "a").read_text() == "2"
    assert not (target / ".git" / "machine-lifecycle-update").exists()
    assert not (tmp_path / ".c.machine-lifecycle-clone").exists()


async def test_a_cancelled_clone_leaves_nothing_running(tmp_path: Path) -> None:
    asked = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        await reader.read()
        writer.close()

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        run = CommandRunner(
            log=tmp_path / "log",
            journal=Journal(tmp_path / "journal"),
            redact=Redactor(),
            report=lambda _: None,
        )
        ctx = StepContext(report=lambda _: None, run_command=run)
        url = f"http://127.0.0.1:{port}/a.git"
        task = asyncio.create_task(_bring(ctx, tmp_path / "c", url))
        await asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert not (tmp_path / "c").exists()
