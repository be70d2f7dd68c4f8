"""Bringing a git repository to a folder, with the program git.

Its exit status decides, never what it writes: a sparse clone writes ``error:`` lines and ends
well. It never asks anything, and reads no configuration file but the repository's own.
"""

from __future__ import annotations

import filecmp
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from machine_lifecycle.installers.errors import (
    CommandFailed,
    CommandTimeout,
    FolderInTheWay,
    GitCause,
    GitCloneFailed,
    GitMissing,
    ProgramMissing,
)
from machine_lifecycle.installers.repository import Repository, check_repository
from machine_lifecycle.model.installing import CommandResult, StepContext

__all__ = ["bring"]

_FULL_SHA = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")
_NO_SUCH_REF = 2
"""Exit status of ``git ls-remote --exit-code`` when no ref matches (git-ls-remote(1))."""

_WORDS = (
    (GitCause.TLS, ("certificate", "SSL ", "TLS")),
    (
        GitCause.AUTH,
        ("could not read Username", "Authentication failed", "Permission denied", "403"),
    ),
    (GitCause.NOT_FOUND, ("not found", "does not exist", "does not appear to be a git repo")),
    (
        GitCause.NETWORK,
        ("Could not resolve host", "Failed to connect", "Connection ", "timed out", "early EOF"),
    ),
)


async def bring(
    ctx: StepContext, repository: Repository, target: Path, env: Mapping[str, str]
) -> str:
    """Have *repository* in *target*, at the wanted commit; the full hash of what is there.

    A clone is made in a folder beside the target and put in place by one rename. A folder that is
    there already is never deleted: at the wanted commit nothing is done, else the commit is fetched
    and checked out; files that no commit knows stay. Safe to run again after any end.

    Raises:
        GitCloneFailed: It can't be brought.
        GitMissing: There is no git.
        FolderInTheWay: The target holds something else, or changed files.
    """
    check_repository(repository)
    work = _Work(ctx, repository, target, env)
    try:
        if (target / ".git").exists():
            return await work.update()
        return await work.clone()
    except ProgramMissing as error:
        raise GitMissing from error
    except CommandTimeout as error:
        raise _failed(repository, target, error, GitCause.NETWORK) from error
    except CommandFailed as error:
        raise _failed(repository, target, error, _cause(error)) from error


def _cause(error: CommandFailed) -> GitCause:
    text = "\n".join(error.context)
    for cause, words in _WORDS:
        if any(word.lower() in text.lower() for word in words):
            return cause
    return GitCause.OTHER


def _failed(
    repository: Repository, target: Path, error: CommandFailed, cause: GitCause
) -> GitCloneFailed:
    return GitCloneFailed(
        url=repository.plain_url,
        target=target,
        wanted=repository.commit or repository.branch,
        cause=cause,
        context=error.context[-12:],
    )


class _Work:
    """One repository on its way to one folder."""

    def __init__(
        self, ctx: StepContext, repository: Repository, target: Path, env: Mapping[str, str]
    ) -> None:
        self._ctx = ctx
        self._wanted = repository
        self._url = repository.plain_url
        self._target = target
        self._env = env
        # One fixed name, so that what a killed run left is found again.
        self._staging = target.with_name(f".{target.name}.machine-lifecycle-clone")

    async def _git(self, *words: str, cwd: Path | None = None, check: bool = True) -> CommandResult:
        return await self._ctx.run_command(["git", *words], env=self._env, cwd=cwd, check=check)

    async def _head(self, folder: Path) -> str:
        return (await self._git("rev-parse", "HEAD", cwd=folder)).output.strip()

    async def clone(self) -> str:
        """Clone beside the target, then put it in place."""
        self._target.parent.mkdir(parents=True, exist_ok=True)
        branch = await self._branch()
        if not await self._shallow(branch):
            self._clear()
            await self._full(branch)
        head = await self._head(self._staging)
        # Ours and no part of the repository: it must not show as a change.
        exclude = self._staging / ".git/info/exclude"
        exclude.parent.mkdir(exist_ok=True)
        with exclude.open("a", encoding="utf-8") as file:
            file.write("/.machine-lifecycle/\n/venv/\n/.env\n")
        self._place()
        return head

    def _clear(self) -> None:
        if self._staging.exists():
            shutil.rmtree(self._staging)

    async def _branch(self) -> str:
        """The wanted branch if the remote has it, else empty, loudly."""
        branch = self._wanted.branch
        if not branch:
            return ""
        refs = (f"refs/heads/{branch}", f"refs/tags/{branch}")
        found = await self._git("ls-remote", "--exit-code", self._url, *refs, check=False)
        if found.status == _NO_SUCH_REF:
            self._ctx.report(
                f"WARNING: {self._url} has no branch {branch}; its default branch is used instead"
            )
            return ""
        return branch

    async def _shallow(self, branch: str) -> bool:
        """Bring one commit without its history; False where that can't be had."""
        self._clear()
        commit = self._wanted.commit
        stage = str(self._staging)
        if commit and not _FULL_SHA.fullmatch(commit):
            return False
        if commit:
            await self._git("init", "--quiet", stage)
            await self._git("remote", "add", "origin", self._url, cwd=self._staging)
            steps: tuple[tuple[str, ...], ...] = (
                ("fetch", "--depth", "1", "--no-tags", "origin", commit),
                ("checkout", "--quiet", "--detach", commit),
            )
        else:
            at = ("--branch", branch) if branch else ()
            clone = ("clone", "--quiet", "--depth", "1", "--no-tags", *at, "--", self._url, stage)
            steps = (clone,)
        if self._wanted.recursive:
            steps += (("submodule", "update", "--quiet", "--init", "--recursive", "--depth", "1"),)
        for words in steps:
            cwd = self._staging if self._staging.exists() else None
            if (await self._git(*words, cwd=cwd, check=False)).status:
                return False
        return True

    async def _full(self, branch: str) -> None:
        at = ("--branch", branch) if branch else ()
        await self._git("clone", "--quiet", *at, "--", self._url, str(self._staging))
        if self._wanted.commit:
            await self._git(
                "checkout", "--quiet", "--detach", self._wanted.commit, cwd=self._staging
            )
        if self._wanted.recursive:
            await self._submodules(self._staging)

    async def _submodules(self, folder: Path) -> None:
        await self._git("submodule", "update", "--quiet", "--init", "--recursive", cwd=folder)

    def _place(self) -> None:
        """Rename into place; into a folder with files of the user's, file by file."""
        if not self._target.exists() or not any(self._target.iterdir()):
            self._staging.replace(self._target)  # replaces an empty folder too
            return
        others = [path for path in self._target.iterdir() if path.name != ".machine-lifecycle"]
        if clash := _clashes(self._staging, self._target):
            self._clear()
            names = ", ".join(clash[:5])
            raise FolderInTheWay(
                folder=self._target, reason=f"it is no clone of {self._url} and holds {names}"
            )
        self._ctx.report(f"{self._target} holds {len(others)} entries, which are kept")
        _merge(self._staging, self._target)
        shutil.rmtree(self._staging)

    async def update(self) -> str:
        """Bring the clone that is there to the wanted commit."""
        origin = await self._git(
            "config", "--get", "remote.origin.url", cwd=self._target, check=False
        )
        found = Repository(url=origin.output.strip()).plain_url
        if _normal(found) != _normal(self._url):
            raise FolderInTheWay(
                folder=self._target, reason=f"it is a clone of {found or 'nothing'}"
            )
        head = await self._head(self._target)
        wanted = self._wanted
        marker = self._target / ".git/machine-lifecycle-update"
        if not marker.exists():
            if wanted.commit and head.startswith(wanted.commit):
                return head
            if not wanted.commit and await self._on_branch():
                return head
            await self._check_unchanged()
        marker.touch()
        try:
            await self._checkout(marker)
        finally:
            # Changed files were ruled out before, so what a cut-short checkout left is ours.
            if await self._is_clean():
                marker.unlink(missing_ok=True)
        if wanted.recursive:
            await self._submodules(self._target)
        return await self._head(self._target)

    async def _on_branch(self) -> bool:
        """Whether what is checked out is the wanted branch, or none is wanted."""
        if not self._wanted.branch:
            return True
        name = await self._git(
            "symbolic-ref", "--quiet", "--short", "HEAD", cwd=self._target, check=False
        )
        # A branch that the remote lacks was replaced by its default when it was cloned.
        return name.output.strip() == self._wanted.branch or not await self._branch()

    async def _is_clean(self) -> bool:
        changes = await self._git(
            "status", "--porcelain", "--untracked-files=no", cwd=self._target, check=False
        )
        return changes.status == 0 and not changes.output.strip()

    async def _check_unchanged(self) -> None:
        if not await self._is_clean():
            raise FolderInTheWay(
                folder=self._target,
                reason="its files were changed, and another commit is wanted",
            )

    async def _checkout(self, marker: Path) -> None:
        (marker.parent / "index.lock").unlink(missing_ok=True)  # of a run of ours that was killed
        wanted, here = self._wanted, self._target
        if wanted.commit:
            known = await self._git(
                "cat-file", "-e", f"{wanted.commit}^{{commit}}", cwd=here, check=False
            )
            if known.status:
                await self._fetch_commit()
            await self._git("checkout", "--quiet", "--force", "--detach", wanted.commit, cwd=here)
            return
        await self._git("fetch", "--depth", "1", "--no-tags", "origin", wanted.branch, cwd=here)
        await self._git(
            "checkout", "--quiet", "--force", "-B", wanted.branch, "FETCH_HEAD", cwd=here
        )

    async def _fetch_commit(self) -> None:
        commit = self._wanted.commit
        if _FULL_SHA.fullmatch(commit):
            one = ("fetch", "--depth", "1", "--no-tags", "origin", commit)
            if (await self._git(*one, cwd=self._target, check=False)).status == 0:
                return
        shallow = (self._target / ".git/shallow").exists()
        every = ("+refs/heads/*:refs/remotes/origin/*",)
        deepen = ("--unshallow",) if shallow else ()
        await self._git("fetch", *deepen, "origin", *every, cwd=self._target)


def _normal(url: str) -> str:
    return url.rstrip("/").removesuffix(".git")


def _clashes(source: Path, target: Path) -> list[str]:
    """Files of *source* that *target* has with other contents."""
    found = []
    for path in source.iterdir():
        there = target / path.name
        if path.is_dir() and not path.is_symlink() and there.is_dir():
            found += [f"{path.name}/{name}" for name in _clashes(path, there)]
        elif there.exists() and not (
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
