"""A new clone, made beside its place and put there when it is whole."""

from __future__ import annotations

import filecmp
import os
from pathlib import Path

from machine_lifecycle.installers.commits import Commits
from machine_lifecycle.installers.git_errors import FolderInTheWay
from machine_lifecycle.installers.git_program import Git
from machine_lifecycle.installers.repository import FULL_SHA
from machine_lifecycle.installers.submodules import Submodules
from machine_lifecycle.installers.threads import remove_tree

__all__ = ["Clone"]


class Clone:
    """Brings a repository to a folder that holds no clone yet."""

    def __init__(self, git: Git, commits: Commits) -> None:
        self._git = git
        self._commits = commits
        self._target = git.target
        # One fixed name, so that what a killed run left is found again.
        self._staging = git.target.with_name(f".{git.target.name}.machine-lifecycle-clone")

    async def run(self) -> str:
        """Clone beside the target, then put it in place; the full hash of what is there.

        Raises:
            FolderInTheWay: The target holds other files by the same names.
        """
        self._target.parent.mkdir(parents=True, exist_ok=True)
        try:
            head = await self._stage()
            self._place()
        finally:
            # A full disk needs the room, and half a clone is of no use to anybody.
            await remove_tree(self._staging)
        return head

    async def _stage(self) -> str:
        git = self._git
        alone = bool(FULL_SHA.fullmatch(git.wanted.commit))
        if alone:
            await self._commits.copy(git, git.wanted.commit, self._staging)
        elif not git.wanted.commit:
            branch = await git.branch()
            if not await self._shallow(branch):
                await self._full(branch)
        else:
            await self._full(await git.branch())
        head = git.wanted.commit if alone else await git.head(self._staging)
        if git.wanted.recursive:
            await Submodules(self._commits).put(git, head, self._staging)
        # Ours and no part of the repository: it must not show as a change.
        exclude = self._staging / ".git/info/exclude"
        exclude.parent.mkdir(exist_ok=True)
        with exclude.open("a", encoding="utf-8") as file:
            file.write("/.machine-lifecycle/\n/venv/\n/.env\n/extra_model_paths.yaml\n")
        if not alone:  # else it is written down already
            await git.remember(self._staging, head)
        return head

    async def _shallow(self, branch: str) -> bool:
        """Bring a branch's newest commit without its history; False where that can't be had."""
        await remove_tree(self._staging)
        git, stage = self._git, str(self._staging)
        at = ("--branch", branch) if branch else ()
        clone = ("clone", "--quiet", "--depth", "1", "--no-tags", *at, "--", git.url, stage)
        return not (await git.network(*clone, check=False)).status

    async def _full(self, branch: str) -> None:
        await remove_tree(self._staging)
        git = self._git
        at = ("--branch", branch) if branch else ()
        await git.network("clone", "--quiet", *at, "--", git.url, str(self._staging))
        if git.wanted.commit:
            words = ("checkout", "--quiet", "--detach", git.wanted.commit, "--")
            await git(*words, cwd=self._staging)

    def _place(self) -> None:
        """Rename into place; into a folder with files of the user's, file by file."""
        if not self._target.exists() or not any(self._target.iterdir()):
            self._staging.replace(self._target)  # replaces an empty folder too
            return
        others = [path for path in self._target.iterdir() if path.name != ".machine-lifecycle"]
        if clash := _clashes(self._staging, self._target):
            names = ", ".join(clash[:5])
            reason = f"it is no clone of {self._git.url} and holds {names}"
            raise FolderInTheWay(folder=self._target, reason=reason)
        self._git.ctx.report(f"{self._target} holds {len(others)} entries, which are kept")
        _merge(self._staging, self._target)


def _clashes(source: Path, target: Path) -> list[str]:
    """Files of *source* that *target* has with other contents."""
    found = []
    for path in source.iterdir():
        there = target / path.name
        if path.is_dir() and not path.is_symlink() and there.is_dir():
            found += [f"{path.name}/{name}" for name in _clashes(path, there)]
        # A link to nowhere counts: what it should lead to may not be mounted yet.
        elif os.path.lexists(there) and not (
            there.is_file() and path.is_file() and filecmp.cmp(path, there, shallow=False)
        ):
            found.append(path.name)
    return sorted(found)


def _merge(source: Path, target: Path) -> None:
    """Move *source* into *target*; ``.git`` last, as it says that the rest is whole."""
    for path in sorted(source.iterdir(), key=lambda path: path.name == ".git"):
        there = target / path.name
        if path.is_dir() and not path.is_symlink() and there.is_dir():
            _merge(path, there)
        else:
            path.replace(there)
