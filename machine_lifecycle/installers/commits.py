"""Commits that were fetched, each alone and once: a bare repository for each address.

A lock is made from them, and clones too: what is here is asked of nobody. The folder may be shared
by workspaces and machines: who fetches into a repository holds a lock of the kernel's on it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Awaitable, Callable, Collection, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TypeVar

import attrs

from machine_lifecycle.installers.errors import CommandFailed, CommandTimeout
from machine_lifecycle.installers.folder_lock import held
from machine_lifecycle.installers.git_causes import cause_in
from machine_lifecycle.installers.git_errors import GitCause
from machine_lifecycle.installers.git_program import Git, quoted
from machine_lifecycle.installers.repository import Repository
from machine_lifecycle.installers.threads import remove_tree, to_the_end
from machine_lifecycle.system.files import write_atomically

__all__ = ["Commits"]

_Use = TypeVar("_Use")

_ALONE = ("fetch", "--quiet", "--depth", "1", "--no-tags", "--")
_CONFIG = "[core]\n\trepositoryformatversion = 0\n\tbare = true\n"
_REFUSED = (GitCause.REF, GitCause.OTHER)
"""What a server says that answers and does not hand out a commit alone."""


@attrs.frozen
class Commits:
    """The folder with those repositories.

    Attributes:
        folder: The folder.
    """

    folder: Path

    def place(self, repository: Repository) -> Path:
        """The repository for an address."""
        url = repository.plain_url.rstrip("/").removesuffix(".git")
        return self.folder / (hashlib.sha256(url.encode()).hexdigest()[:24] + ".git")

    def note(self, repository: Repository, commit: str) -> Path:
        """Where it is written down which submodules a commit has."""
        return self.place(repository) / f"submodules-{commit}.json"

    def has(self, repository: Repository, commit: str) -> bool:
        """Whether a commit is kept, with all of its files."""
        return (self.place(repository) / "refs" / "locked" / commit).exists()

    async def have(self, git: Git, commit: str) -> Path:
        """Have a commit, with all of its files; the bare repository that has it as
        ``refs/locked/COMMIT``.

        Raises:
            CommandFailed: It can't be had.
            HostDown: Nobody answers.
        """
        here = self.place(git.wanted)
        if not self.has(git.wanted, commit):
            async with self._alone(git, here):
                if not self.has(git.wanted, commit):
                    _clear_left(here)
                    _make(here)
                    await _bring(git, here, commit)
        return here

    async def newest(self, git: Git, ref: str) -> str:
        """Have the commit that *ref* is, as of now: one conversation tells which, and brings it.

        Returns:
            Its full hash; empty where that is to be found out otherwise: something is here already,
            there is no such ref, or its host hands out no commit alone.

        Raises:
            CommandFailed: Nobody answers, or it is refused.
            HostDown: Nobody answers.
        """
        here = self.place(git.wanted)
        if here.exists():
            return ""
        async with self._alone(git, here):
            _make(here)
            try:
                await git.network(*_ALONE, git.url, ref, cwd=here)
            except CommandTimeout:
                raise
            except CommandFailed as error:
                if cause_in(error.context) not in _REFUSED:
                    raise
                return ""
            commit = (here / "FETCH_HEAD").read_text("utf-8").partition("\t")[0]
            write_atomically(here / "refs" / "locked" / commit, f"{commit}\n", durable=False)
        return commit

    async def copy(self, git: Git, commit: str, to: Path, *, git_dir: Path | None = None) -> None:
        """Check a commit out in a new folder, as a clone of its own. What git keeps of it is linked
        where the disk can do that: it is never changed in place.

        Args:
            git: Of its repository.
            commit: Which.
            to: The folder.
            git_dir: Where git keeps what it knows of it; None: in ``.git``.

        Raises:
            CommandFailed: It can't be had.
            HostDown: Nobody answers.
        """

        async def check_out() -> None:
            await to_the_end(_clone, git, self.place(git.wanted), commit, to, git_dir)
            await git("reset", "--quiet", "--hard", cwd=to)

        await self.have(git, commit)
        await self.mending(git, commit, check_out)

    async def mending(self, git: Git, commit: str, use: Callable[[], Awaitable[_Use]]) -> _Use:
        """Use a kept commit; where that fails, what is kept is damaged: it is fetched again.

        Raises:
            CommandFailed: It still can't be used, or not be had.
            HostDown: Nobody answers.
        """
        try:
            return await use()
        except CommandTimeout:
            raise
        except CommandFailed:
            here = self.place(git.wanted)
            git.ctx.report(f"{here} is damaged: it is fetched again")
            async with self._alone(git, here):
                await remove_tree(here)
            await self.have(git, commit)
            return await use()

    def forget(self, keep: Collection[Repository]) -> None:
        """Remove all but the repositories of *keep*, and their submodules. Takes a while."""
        more = {self.place(one).name for one in keep}
        names: set[str] = set()
        while more:
            names |= more
            notes = (note for name in more for note in (self.folder / name).glob("submodules-*"))
            more = {place for note in notes for place in _places(note)} - names
        for folder in self.folder.glob("*.git"):
            if folder.name not in names:
                shutil.rmtree(folder, ignore_errors=True)
                folder.with_suffix(".lock").unlink(missing_ok=True)

    def _alone(self, git: Git, here: Path) -> AbstractAsyncContextManager[int]:
        """Hold the lock of a repository; where the file system has none, git's own must do."""
        return held(
            here.with_suffix(".lock"), git.ctx.report, what=f"somebody else fetches {git.url}"
        )


def _places(note: Path) -> Iterator[str]:
    """Where the submodules are kept that a note names; one that is damaged names none."""
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        yield from [one["place"] for one in json.loads(note.read_text("utf-8"))]


def _make(here: Path) -> None:
    """Make an empty bare repository by hand, as gitrepository-layout(5) describes it."""
    for folder in ("objects", "refs/heads", "refs/locked"):
        (here / folder).mkdir(parents=True, exist_ok=True)
    for name, text in (("config", _CONFIG), ("HEAD", "ref: refs/heads/none\n")):
        if not (here / name).exists():
            write_atomically(here / name, text, durable=False)


def _clear_left(here: Path) -> None:
    """Remove what a git that was killed left: none runs here while our lock is held."""
    for left in ("*.lock", "refs/locked/*.lock", "objects/pack/tmp_*", "objects/??/tmp_*"):
        for path in here.glob(left):
            path.unlink(missing_ok=True)


def _clone(git: Git, here: Path, commit: str, to: Path, git_dir: Path | None) -> None:
    """Write a clone by hand, as gitrepository-layout(5) describes it: git takes eight programs."""
    shutil.rmtree(to, ignore_errors=True)
    to.mkdir(parents=True)
    place = git_dir or to / ".git"
    shutil.rmtree(place, ignore_errors=True)
    (place / "refs" / "heads").mkdir(parents=True)
    # Read before the objects are linked: a fetch that runs meanwhile adds to both, objects first.
    with contextlib.suppress(FileNotFoundError):
        shutil.copyfile(here / "shallow", place / "shallow")
    unfinished = shutil.ignore_patterns("tmp_*", "*.lock")
    shutil.copytree(here / "objects", place / "objects", copy_function=_link, ignore=unfinished)
    config = (here / "config").read_text("utf-8").replace("bare = true", "bare = false")
    if git_dir is not None:  # relative paths both ways, so that both can be moved together
        config += f"[core]\n\tworktree = {quoted(os.path.relpath(to, place))}\n"
        (to / ".git").write_text(f"gitdir: {os.path.relpath(place, to)}\n", "utf-8")
    (place / "config").write_text(config + git.remembering(commit), "utf-8")
    (place / "HEAD").write_text(f"{commit}\n", "utf-8")


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another disk, or a file system without hard links
        shutil.copy2(source, target)


async def _bring(git: Git, here: Path, commit: str) -> None:
    """One commit alone; from a host that does not hand it out so, by way of its history."""
    try:
        await git.network(*_ALONE, git.url, f"{commit}:refs/locked/{commit}", cwd=here)
    except CommandTimeout:
        raise
    except CommandFailed as error:
        if cause_in(error.context) not in _REFUSED:
            raise
        await _by_history(git, here, commit)


async def _by_history(git: Git, here: Path, commit: str) -> None:
    aside = here.with_suffix(".history")
    refused = f"{git.url} does not hand out {commit[:12]} alone"
    try:
        git.ctx.report(f"{refused}: its history is fetched, without old files")
        if not await _without_files(git, aside, commit):
            git.ctx.report(f"{refused}, nor files alone: all of its history is fetched")
            await remove_tree(aside)
            await git.network("clone", "--quiet", "--bare", "--", git.url, str(aside))
            await git("update-ref", f"refs/locked/{commit}", f"{commit}^{{commit}}", cwd=aside)
        await git.local(aside, commit, cwd=here, keep=True)
    finally:
        await remove_tree(aside)


async def _without_files(git: Git, aside: Path, commit: str) -> bool:
    """Commits and folders alone, then the files of the one; False where the host can't do that."""
    await remove_tree(aside)
    clone = ("clone", "--quiet", "--bare", "--filter=blob:none", "--", git.url, str(aside))
    if (await git.network(*clone, check=False)).status:
        return False
    # Fails if the commit is nowhere in the history; then cloning in full would not bring it either.
    await git("update-ref", f"refs/locked/{commit}", f"{commit}^{{commit}}", cwd=aside)
    files = aside.with_suffix(".files")
    files.mkdir(exist_ok=True)
    try:
        # Checking out asks for all that lacks in one question.
        tree = (f"--git-dir={aside}", f"--work-tree={files}")
        words = ("checkout", "--quiet", "--force", commit, "--", ".")
        return not (await git.network(*tree, *words, check=False, cwd=files)).status
    finally:
        await remove_tree(files)
