"""Repositories looked at without a clone: which commit a branch is, and files of that commit.

A commit is fetched alone, without its history, into a bare repository of its address; there it
stays, and a boot takes it from there instead of from the network.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import attrs

from machine_lifecycle.installers.errors import CommandFailed
from machine_lifecycle.installers.git import cause_of
from machine_lifecycle.installers.git_errors import GitCause, GitCloneFailed
from machine_lifecycle.installers.gitprogram import Git
from machine_lifecycle.installers.repository import (
    FULL_SHA,
    Repository,
    check_repository,
    git_environment,
)
from machine_lifecycle.installers.requirements import Reading, decode, read_requirements
from machine_lifecycle.model.installing import StepContext

__all__ = ["Snapshot", "Sources", "commit_of"]

_PEELED = "^{}"
_PATH = re.compile(r"^submodule\..+\.path (.+)$", re.MULTILINE)


def commit_of(listed: str, branch: str) -> str:
    """The commit that *branch* is, in what ``git ls-remote`` lists; empty if it is not there.

    A branch comes before a tag of the same name, as for ``git clone --branch``; of an annotated
    tag it is the commit that counts. Without a branch it is ``HEAD``.
    """
    refs = {}
    for line in listed.splitlines():
        commit, _, name = line.partition("\t")
        if FULL_SHA.fullmatch(commit):
            refs[name] = commit
    names = (f"refs/heads/{branch}", f"refs/tags/{branch}{_PEELED}", f"refs/tags/{branch}")
    return next((refs[name] for name in (names if branch else ("HEAD",)) if name in refs), "")


@attrs.frozen(kw_only=True)
class Snapshot:
    """A commit that has been fetched.

    Attributes:
        repository: Where from.
        commit: Full hash.
        tree: Hash of its files.
        submodules: Path and commit of each.
        folder: Bare repository that has it.
    """

    repository: Repository
    commit: str
    tree: str
    submodules: tuple[tuple[str, str], ...]
    folder: Path


@attrs.frozen(kw_only=True)
class Sources:
    """Fetches commits into one folder.

    Attributes:
        ctx: Runs git.
        cache: The folder.
        environ: The machine's environment.
        global_config: Whether git reads the user's configuration.
    """

    ctx: StepContext
    cache: Path
    environ: Mapping[str, str] = attrs.field(repr=False)
    global_config: bool = False

    def folder(self, repository: Repository) -> Path:
        """Where commits of a repository are kept."""
        url = repository.plain_url.rstrip("/").removesuffix(".git")
        return self.cache / (hashlib.sha256(url.encode()).hexdigest()[:24] + ".git")

    def _git(self, repository: Repository) -> Git:
        check_repository(repository)
        env = git_environment(self.environ, repository, global_config=self.global_config)
        return Git(self.ctx, repository, self.folder(repository), env)

    async def resolve(self, repository: Repository) -> str:
        """The full hash of the commit that is wanted now.

        Raises:
            GitCloneFailed: Nobody answers, or there is no such branch or commit.
            GitUrlRefused: The address is none.
        """
        if FULL_SHA.fullmatch(repository.commit):
            return repository.commit
        git = self._git(repository)
        if repository.commit:
            return await self._of_short(git)
        branch = repository.branch
        names = (f"refs/heads/{branch}", f"refs/tags/{branch}*") if branch else ("HEAD",)
        try:
            listed = await git("ls-remote", "--", git.url, *names)
        except CommandFailed as error:
            raise self._failed(git, error) from error
        if found := commit_of(listed.output, branch):
            return found
        if branch and repository.or_default:
            self.ctx.report(f"{git.url} has no {branch}; its default branch is taken instead")
            return await self.resolve(attrs.evolve(repository, branch=""))
        raise GitCloneFailed(url=git.url, target=git.target, wanted=branch, cause=GitCause.REF)

    async def _of_short(self, git: Git) -> str:
        """Commits without their files: enough to find one by the beginning of its hash."""
        place = git.target.with_suffix(".commits")
        shutil.rmtree(place, ignore_errors=True)
        self.cache.mkdir(parents=True, exist_ok=True)
        try:
            words = ("clone", "--quiet", "--bare", "--filter=tree:0", "--", git.url, str(place))
            await git(*words)
            name = f"{git.wanted.commit}^{{commit}}"
            return (await git("rev-parse", "--verify", name, cwd=place)).output.strip()
        except CommandFailed as error:
            raise self._failed(git, error) from error
        finally:
            shutil.rmtree(place, ignore_errors=True)

    async def fetch(self, repository: Repository, commit: str) -> Snapshot:
        """Have a commit; nothing is asked for that is there.

        Raises:
            GitCloneFailed: It can't be had.
        """
        git = self._git(repository)
        here = git.target
        try:
            if not (here / "HEAD").exists():
                here.mkdir(parents=True, exist_ok=True)
                await git("init", "--quiet", "--bare", ".", cwd=here)
            name = f"{commit}^{{tree}}"
            if not await git.text("rev-parse", "--verify", "--quiet", name, cwd=here):
                await self._bring(git, commit)
            await git("update-ref", f"refs/locked/{commit}", commit, cwd=here)
            tree = (await git("rev-parse", "--verify", name, cwd=here)).output.strip()
            modules = await self._submodules(git, commit)
        except CommandFailed as error:
            raise self._failed(git, error) from error
        return Snapshot(
            repository=repository, commit=commit, tree=tree, submodules=modules, folder=here
        )

    async def _submodules(self, git: Git, commit: str) -> tuple[tuple[str, str], ...]:
        listed = ("config", "--blob", f"{commit}:.gitmodules", "--get-regexp", r"\.path$")
        paths = _PATH.findall(await git.text(*listed, cwd=git.target))
        found = {
            path: await git.text("rev-parse", "--verify", f"{commit}:{path}", cwd=git.target)
            for path in sorted(paths)
        }
        return tuple((path, commit) for path, commit in found.items() if commit)

    async def _bring(self, git: Git, commit: str) -> None:
        """One commit alone; where that is not to be had, without its files; else everything."""
        here = git.target
        await git("config", "remote.origin.url", git.url, cwd=here)
        alone = ("fetch", "--quiet", "--depth", "1", "--no-tags")
        for words in ((*alone, "origin", commit), (*alone, "--filter=blob:none", "origin", commit)):
            if not (await git(*words, cwd=here, check=False)).status:
                return
        every = ("+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*")
        await git("fetch", "--quiet", "--no-tags", "origin", *every, cwd=here)

    async def requirements(
        self, snapshot: Snapshot, environment: Mapping[str, str], start: str = "requirements.txt"
    ) -> Reading:
        """What a commit requires: its file, and those that it includes."""
        texts: dict[str, str | None] = {}
        while True:
            asked: dict[str, None] = {}
            found = read_requirements(_noting(texts, asked), start, environment)
            if not asked:
                return found
            for path in asked:
                texts[path] = await self._file(snapshot, path)

    async def _file(self, snapshot: Snapshot, path: str) -> str | None:
        """Its bytes go over a file: what a program writes is read as lines of a log."""
        git = self._git(snapshot.repository)
        with tempfile.TemporaryDirectory() as place:
            unpack = (f"--git-dir={snapshot.folder}", "unpack-file", f"{snapshot.commit}:{path}")
            said = await git(*unpack, cwd=Path(place), check=False)
            return None if said.status else decode((Path(place) / said.output.strip()).read_bytes())

    def forget(self, keep: Collection[str]) -> None:
        """Remove repositories that no lock speaks of any more; *keep*: names of folders."""
        for folder in self.cache.glob("*.git"):
            if folder.name not in keep:
                shutil.rmtree(folder, ignore_errors=True)

    def _failed(self, git: Git, error: CommandFailed) -> GitCloneFailed:
        wanted = git.wanted
        return GitCloneFailed(
            url=git.url,
            target=git.target,
            wanted=wanted.commit or wanted.branch,
            cause=cause_of(error, wanted),
            context=error.context[-12:],
        )


def _noting(texts: Mapping[str, str | None], asked: dict[str, None]) -> Callable[[str], str | None]:
    """Read from *texts*; what is not known yet is noted down."""

    def read(path: str) -> str | None:
        if path not in texts:
            asked[path] = None
        return texts.get(path)

    return read
