"""Taking a clone that is there to another address, branch or commit."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from machine_lifecycle.installers.commits import Commits
from machine_lifecycle.installers.git_errors import FilesChanged, FolderInTheWay
from machine_lifecycle.installers.git_program import Git
from machine_lifecycle.installers.repository import FULL_SHA, Repository
from machine_lifecycle.installers.scripts import changed_by_hand
from machine_lifecycle.installers.submodules import Submodules

__all__ = ["Switch"]

_PLAIN = ("-c", "core.quotePath=false")
_FETCH = ("fetch", "--no-tags", "--no-recurse-submodules")
_SYMREF = re.compile(r"^ref: refs/heads/(\S+)\s+HEAD$", re.MULTILINE)


class Switch:
    """Brings the clone in the target to what is wanted.

    The wanted commit is fetched into the same clone and checked out; files that no commit knows
    (models, outputs, other packs) stay where they are. Nothing is touched if files of the
    repository were changed by hand, if it has commits of its own, or if other files are in the
    way. The address is written last, so that a run that was killed is done again.
    """

    def __init__(self, git: Git, commits: Commits) -> None:
        self._git = git
        self._commits = commits
        self._here = git.target

    async def run(self) -> str:
        """Do it where it is needed; the full hash of what is there then.

        Raises:
            FolderInTheWay: It is no clone, or other files are in the way.
            FilesChanged: It holds work of somebody's.
        """
        git, here = self._git, self._here
        found = await git.text("config", "--get", "remote.origin.url", cwd=here)
        if not found:
            raise FolderInTheWay(folder=here, reason="it is a repository of its own, no clone")
        head = await git.head(here)
        marker = Path(await git.text("rev-parse", "--absolute-git-dir", cwd=here))
        marker /= "machine-lifecycle-update"
        same = _normal(Repository(url=found).plain_url) == _normal(git.url)
        if not marker.exists() and same and await self._is_there(head):
            await git.remember(here)  # without the commit: somebody may have put it there
            return head
        if not same:
            git.ctx.report(f"{here.name} was cloned from {found}; it is taken to {git.url}")
        branch, new = await self._fetch(marker.parent)
        if not marker.exists():
            await self._check(head, new)
        marker.touch()
        try:
            await self._checkout(branch, new, marker)
        finally:
            # No file was changed by hand before (`_check`), so changes are those of a checkout that
            # was cut short: the marker stays, and the next run checks out again.
            if await self._changed() == ():
                marker.unlink(missing_ok=True)
        await git("config", "remote.origin.url", git.url, cwd=here)
        await git.remember(here, new)
        return new

    async def _is_there(self, head: str) -> bool:
        """Whether what is checked out is what is wanted, as far as can be told without asking."""
        git, wanted = self._git, self._git.wanted
        if wanted.commit:
            return head.startswith(wanted.commit)
        before, _ = await git.remembered(self._here)
        if before not in {"", wanted.ref}:
            return False
        if not wanted.branch:
            return True
        name = await git.text("symbolic-ref", "--quiet", "--short", "HEAD", cwd=self._here)
        if name == wanted.branch:
            return True
        if before:  # cloned by us: at a tag, or at the default branch in place of a missing one
            return wanted.or_default or not name
        return wanted.or_default and not await git.branch()

    async def _fetch(self, folder: Path) -> tuple[str, str]:
        """Have the wanted commit in the clone; the name of its branch, if any, and its hash."""
        git, here, commit = self._git, self._here, self._git.wanted.commit
        if commit:
            name = f"{commit}^{{commit}}"
            if not await git.text("rev-parse", "--verify", "--quiet", name, cwd=here):
                await self._fetch_commit(commit, folder)
            found = await git("rev-parse", "--verify", name, cwd=here)
            return "", found.output.strip()
        branch = await git.branch()
        # Only a shallow clone is fetched shallowly: a full one keeps its history.
        depth = ("--depth", "1") if (folder / "shallow").exists() else ()
        await git.network(*_FETCH, *depth, git.url, branch or "HEAD", cwd=here)
        new = await git("rev-parse", "--verify", "FETCH_HEAD^{commit}", cwd=here)
        return branch or await self._default_branch(), new.output.strip()

    async def _default_branch(self) -> str:
        said = await self._git.network("ls-remote", "--symref", self._git.url, "HEAD")
        found = _SYMREF.search(said.output)
        return found[1] if found else ""

    async def _fetch_commit(self, commit: str, folder: Path) -> None:
        git = self._git
        if FULL_SHA.fullmatch(commit):
            place = await self._commits.have(git, commit)
            await git.local(place, commit, cwd=self._here)
            return
        deepen = ("--unshallow",) if (folder / "shallow").exists() else ()
        every = "+refs/heads/*:refs/remotes/origin/*"
        await git.network(*_FETCH, *deepen, git.url, every, cwd=self._here)

    async def _changed(self) -> tuple[str, ...]:
        """Files of the repository that somebody changed."""
        git = self._git
        words = "--ignore-submodules=dirty"
        return await changed_by_hand(git.ctx.run_command, self._here, git.env, words)

    async def _check(self, head: str, new: str) -> None:
        """Refuse what would lose somebody's work."""
        git, here = self._git, self._here
        _, ours = await git.remembered(here)
        own: tuple[str, ...] = ()
        if head != ours:
            listed = ("rev-list", "--max-count=20", "HEAD", "--not", "--remotes", "--tags")
            own = tuple((await git.text(*listed, cwd=here)).split())
        if (changed := await self._changed()) or own:
            raise FilesChanged(folder=here, files=changed, commits=own, wanted=git.wanted.shown)
        # Ignored files count here, unlike for `git checkout`, which would overwrite them.
        look = ("diff", "--name-only", "--no-renames", "--diff-filter=A", "HEAD", new, "--")
        added = (await git(*_PLAIN, *look, cwd=here)).output.splitlines()
        if names := _there(here, added):
            reason = f"{git.wanted.shown} has files of its own for {', '.join(names[:5])}"
            raise FolderInTheWay(folder=here, reason=reason, inside=names)

    async def _checkout(self, branch: str, new: str, marker: Path) -> None:
        (marker.parent / "index.lock").unlink(missing_ok=True)  # of a run of ours that was killed
        at = ("-B", branch, new) if branch else ("--detach", new)
        await self._git("checkout", "--quiet", "--force", *at, "--", cwd=self._here)
        if self._git.wanted.recursive:
            await Submodules(self._commits).put(self._git, new, self._here)


def _there(folder: Path, names: Iterable[str]) -> tuple[str, ...]:
    """Those of *names* that the folder has, be it as a link to nowhere."""
    return tuple(name for name in names if os.path.lexists(folder / name))


def _normal(url: str) -> str:
    return url.rstrip("/").removesuffix(".git")
