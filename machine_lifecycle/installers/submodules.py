"""Submodules: fetched and kept as commits like all others, and put into a clone from there."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path, PurePosixPath

import attrs

from machine_lifecycle.installers.commits import Commits
from machine_lifecycle.installers.errors import CommandFailed
from machine_lifecycle.installers.git_errors import GitUrlRefused
from machine_lifecycle.installers.git_program import Git
from machine_lifecycle.installers.repository import Repository, check_repository
from machine_lifecycle.system.files import write_atomically

__all__ = ["Submodule", "Submodules", "address"]

_SAID = re.compile(r"^submodule\.(.+)\.(path|url) (.*)$", re.MULTILINE)
_IN_TREE = re.compile(r"160000 commit ([0-9a-f]+)\t([^\0]+)\0")
"""An entry of a tree that is a commit of another repository (git-ls-tree(1))."""
_NONE_OF_THAT_NAME = 1
"""Exit status of ``git config`` (git-config(1))."""


@attrs.frozen(kw_only=True)
class Submodule:
    """A repository inside of another.

    Attributes:
        name: What the other calls it.
        path: Where it belongs there.
        url: Its address, as git would ask for it.
        commit: Full hash.
    """

    name: str
    path: str
    url: str = attrs.field(repr=False)
    commit: str

    def check(self) -> None:
        """Whether it stays inside, and git asks nothing but a repository.

        Raises:
            GitUrlRefused: It does not.
        """
        for text in (self.name, self.path):
            parts = PurePosixPath(text).parts
            if not parts or text.startswith(("/", "-")) or {"..", ".git"} & {*parts}:
                raise GitUrlRefused(text=text, problem="a submodule's place is outside")
        check_repository(Repository(url=self.url))


def address(of: str, url: str) -> str:
    """A submodule's address, which may be relative to that of its repository (gitmodules(5))."""
    if not url.startswith(("./", "../")):
        return url
    base, between = of.rstrip("/"), "/"
    while url.startswith(("./", "../")):
        if url.startswith("../"):
            between = "/" if "/" in base else ":"  # as in git@host:repository
            base = base.rpartition(between)[0]
        url = url.partition("/")[2]
    return f"{base}{between}{url}"


@attrs.frozen
class Submodules:
    """Those of commits. Each is fetched alone, kept, and asked of nobody again.

    Attributes:
        commits: Where they are kept.
    """

    commits: Commits

    async def listed(
        self, git: Git, commit: str, clone: Path | None = None
    ) -> tuple[Submodule, ...]:
        """What a commit says of its submodules.

        Args:
            git: Of its repository.
            commit: Which.
            clone: That has it; None: it is kept.

        Raises:
            CommandFailed: It can't be read: it is damaged, or no list of submodules.
        """
        here = clone or self.commits.place(git.wanted)
        if not (await git("ls-tree", commit, "--", ".gitmodules", cwd=here)).output.strip():
            return ()
        asked = ("config", "--blob", f"{commit}:.gitmodules", "--get-regexp", r"\.(path|url)$")
        told = await git(*asked, cwd=here, check=False)
        if told.status not in {0, _NONE_OF_THAT_NAME}:
            await git(*asked, cwd=here)  # which fails, and says why
        said: dict[str, dict[str, str]] = {}
        for name, key, value in _SAID.findall(told.output):
            said.setdefault(name, {})[key] = value
        names = {one["path"]: name for name, one in said.items() if {"path", "url"} <= one.keys()}
        if not names:
            return ()
        tree = await git("ls-tree", "-z", commit, "--", *names, cwd=here)
        return tuple(
            Submodule(
                name=names[path],
                path=path,
                url=address(git.wanted.url, said[names[path]]["url"]),
                commit=at,
            )
            for at, path in _IN_TREE.findall(tree.output)
            if path in names
        )

    async def have(self, git: Git, commit: str, clone: Path | None = None) -> tuple[Submodule, ...]:
        """Have all submodules of a commit, and theirs.

        Args:
            git: Of its repository.
            commit: Which.
            clone: That has it; None: it is kept.

        Returns:
            Its own.

        Raises:
            CommandFailed: One can't be had.
            HostDown: Nobody answers.
            GitUrlRefused: One is no repository, or would not be inside.
        """
        note = self.commits.note(git.wanted, commit)
        found = _noted(note)
        if found is None:
            found = await self.listed(git, commit, clone)
        for one in found:
            one.check()
            sub = _git_of(git, one)
            try:
                await self.commits.have(sub, one.commit)
            except CommandFailed as error:
                error.context = (*error.context, f"it is for its submodule {one.path}, {sub.url}")
                raise
            await self.have(sub, one.commit)
        if self.commits.has(git.wanted, commit):
            values = [{**attrs.asdict(one), "place": self._place(one).name} for one in found]
            # Only once all are there: what is noted is looked up nowhere again, and is kept.
            await asyncio.to_thread(write_atomically, note, json.dumps(values), mode=0o600)
        return found

    def _place(self, one: Submodule) -> Path:
        return self.commits.place(Repository(url=one.url))

    async def put(self, git: Git, commit: str, clone: Path, *, git_dir: Path | None = None) -> None:
        """Have the submodules of a commit, and put them into a clone of it.

        Args:
            git: Of the repository.
            commit: What is checked out.
            clone: Where.
            git_dir: Where git keeps what it knows of that; None: in ``.git``.

        Raises:
            CommandFailed: One can't be had, or somebody's changes are in the way.
            HostDown: Nobody answers.
            GitUrlRefused: One is no repository, or would not be inside.
        """
        git_dir = git_dir or Path(await git.text("rev-parse", "--absolute-git-dir", cwd=clone))
        for one in await self.have(git, commit, clone):
            sub, worktree = _git_of(git, one), clone / one.path
            inside = git_dir / "modules" / one.name
            if not (worktree / ".git").exists():
                await self.commits.copy(sub, one.commit, worktree, git_dir=inside)
            elif await sub.head(worktree) != one.commit:
                await sub.local(self._place(one), one.commit, cwd=worktree)
                await sub("checkout", "--quiet", "--detach", one.commit, "--", cwd=worktree)
                await sub("config", "remote.origin.url", sub.url, cwd=worktree)
            # As `git submodule init` does, so that git knows it for one.
            await git("config", f"submodule.{one.name}.url", sub.url, cwd=clone)
            await self.put(sub, one.commit, worktree, git_dir=inside)


def _git_of(git: Git, one: Submodule) -> Git:
    """Git for a submodule, which may not be where only a person may send it, such as a folder."""
    wanted = Repository(url=one.url, commit=one.commit)
    return attrs.evolve(git, wanted=wanted, env={**git.env, "GIT_PROTOCOL_FROM_USER": "0"})


def _noted(note: Path) -> tuple[Submodule, ...] | None:
    try:
        values = json.loads(note.read_text("utf-8"))
        fields = [one.name for one in attrs.fields(Submodule)]
        return tuple(Submodule(**{name: value[name] for name in fields}) for value in values)
    except (OSError, ValueError, KeyError, TypeError):
        return None
