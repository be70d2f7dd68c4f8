"""Repositories looked at without a clone: which commit a branch is, and files of that commit.

A commit is fetched alone, without its history, and kept: a boot takes it from there instead of from
the network.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import attrs

from machine_lifecycle.installers.commits import Commits
from machine_lifecycle.installers.errors import CommandFailed
from machine_lifecycle.installers.git import clone_failed
from machine_lifecycle.installers.git_errors import GitCause, GitCloneFailed, GitUrlRefused
from machine_lifecycle.installers.git_program import Git
from machine_lifecycle.installers.hosts import Hosts
from machine_lifecycle.installers.origins import Origins
from machine_lifecycle.installers.repository import FULL_SHA, Repository, check_repository
from machine_lifecycle.installers.requirements import Reading, decode, read_requirements
from machine_lifecycle.installers.submodules import Submodule, Submodules
from machine_lifecycle.model.installing import StepContext

__all__ = ["Snapshot", "Sources", "commit_of"]

_PEELED = "^{}"


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
    """Finds commits, and fetches them.

    Attributes:
        ctx: Runs git.
        commits: Where they are kept.
        environ: The machine's environment.
        origins: Where they may come from.
        hosts: What is known of those that are asked.
    """

    ctx: StepContext
    commits: Commits
    environ: Mapping[str, str] = attrs.field(repr=False)
    origins: Origins = Origins()
    hosts: Hosts = attrs.field(factory=Hosts)

    def _git(self, repository: Repository) -> Git:
        check_repository(repository)
        if not self.origins.allows(repository.url):
            raise GitUrlRefused(text=repository.plain_url, problem="its host is not allowed")
        env = self.origins.environment(self.environ, repository)
        return Git(self.ctx, repository, self.commits.place(repository), env, self.hosts)

    async def resolve(self, repository: Repository) -> str:
        """The full hash of the commit that is wanted now.

        Raises:
            HostDown: Nobody answers there.
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
            listed = await git.network("ls-remote", "--", git.url, *names)
        except CommandFailed as error:
            raise clone_failed(git, error) from error
        if found := commit_of(listed.output, branch):
            return found
        if branch and repository.or_default:
            self.ctx.report(f"{git.url} has no {branch}; its default branch is taken instead")
            return await self.resolve(attrs.evolve(repository, branch=""))
        raise GitCloneFailed(url=git.url, target=git.target, wanted=branch, cause=GitCause.REF)

    async def newest(self, repository: Repository) -> str:
        """Likewise, and have it: asked in one go where nothing is known of its repository yet.

        Raises:
            HostDown: Nobody answers there.
            GitCloneFailed: Nobody answers, or there is no such branch or commit.
            GitUrlRefused: The address is none.
        """
        if not repository.commit:
            git = self._git(repository)
            ref = f"refs/heads/{repository.branch}" if repository.branch else "HEAD"
            try:
                if commit := await self.commits.newest(git, ref):
                    return commit
            except CommandFailed as error:
                raise clone_failed(git, error) from error
        return await self.resolve(repository)

    async def _of_short(self, git: Git) -> str:
        """Commits without their files: enough to find one by the beginning of its hash."""
        # A folder for this look alone: others may look at the same time, from other machines too.
        with tempfile.TemporaryDirectory(prefix="machine-lifecycle-commits-") as place:
            try:
                words = ("clone", "--quiet", "--bare", "--filter=tree:0", "--", git.url, place)
                await git.network(*words)
                name = f"{git.wanted.commit}^{{commit}}"
                return (await git("rev-parse", "--verify", name, cwd=Path(place))).output.strip()
            except CommandFailed as error:
                raise clone_failed(git, error) from error

    async def fetch(self, repository: Repository, commit: str) -> Snapshot:
        """Have a commit; nothing is asked for that is there.

        Raises:
            HostDown: Nobody answers there.
            GitCloneFailed: It can't be had.
        """
        git, modules = self._git(repository), Submodules(self.commits)
        name = f"{commit}^{{tree}}"

        async def look() -> tuple[str, tuple[Submodule, ...]]:
            tree = await git("rev-parse", "--verify", name, cwd=git.target)
            return tree.output.strip(), await modules.listed(git, commit)

        try:
            here = await self.commits.have(git, commit)
            tree, inside = await self.commits.mending(git, commit, look)
            if repository.recursive:
                await modules.have(git, commit)
        except CommandFailed as error:
            raise clone_failed(git, error) from error
        return Snapshot(
            repository=repository,
            commit=commit,
            tree=tree,
            submodules=tuple((one.path, one.commit) for one in inside),
            folder=here,
        )

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
        """A file of a commit; None: it has none of that name."""
        git = self._git(snapshot.repository)

        async def read() -> str | None:
            # By way of a file, for the exact bytes: a program's output is read as lines of a log.
            with tempfile.TemporaryDirectory() as place:
                words = (f"--git-dir={snapshot.folder}", "unpack-file", f"{snapshot.commit}:{path}")
                said = await git(*words, cwd=Path(place), check=False)
                if said.status == 0:
                    return decode((Path(place) / said.output.strip()).read_bytes())
                asked = ("ls-tree", "--name-only", snapshot.commit, "--", path)
                if not (await git(*asked, cwd=snapshot.folder)).output.strip():
                    return None
                await git(*words, cwd=Path(place))  # it is damaged
                return None

        try:
            return await self.commits.mending(git, snapshot.commit, read)
        except CommandFailed as error:
            raise clone_failed(git, error) from error


def _noting(texts: Mapping[str, str | None], asked: dict[str, None]) -> Callable[[str], str | None]:
    """Read from *texts*; what is not known yet is noted down."""

    def read(path: str) -> str | None:
        if path not in texts:
            asked[path] = None
        return texts.get(path)

    return read
