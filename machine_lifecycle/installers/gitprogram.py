"""The program git, spoken to about one repository and the folder it belongs into."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import attrs

from machine_lifecycle.installers.git_errors import GitCause, GitCloneFailed
from machine_lifecycle.installers.repository import Repository
from machine_lifecycle.model.installing import CommandResult, StepContext

__all__ = ["Git"]

_NO_SUCH_REF = 2
"""Exit status of ``git ls-remote --exit-code`` when no ref matches (git-ls-remote(1))."""

_SECTION = "machine-lifecycle"


@attrs.frozen
class Git:
    """Runs git for one repository. Its exit status decides, never what it writes.

    Attributes:
        ctx: Of the step that brings it.
        wanted: The repository.
        target: Where it belongs.
        env: The environment git gets.
    """

    ctx: StepContext
    wanted: Repository
    target: Path
    env: Mapping[str, str] = attrs.field(repr=False)

    @property
    def url(self) -> str:
        """Its address, without credentials."""
        return self.wanted.plain_url

    async def __call__(
        self, *words: str, cwd: Path | None = None, check: bool = True
    ) -> CommandResult:
        """Run git; without a folder of its own, nowhere in particular."""
        return await self.ctx.run_command(["git", *words], env=self.env, cwd=cwd, check=check)

    async def text(self, *words: str, cwd: Path) -> str:
        """What a question to git is answered with; empty if there is no answer."""
        answer = await self(*words, cwd=cwd, check=False)
        return "" if answer.status else answer.output.strip()

    async def head(self, folder: Path) -> str:
        """Full hash of what is checked out."""
        return (await self("rev-parse", "HEAD", cwd=folder)).output.strip()

    async def branch(self) -> str:
        """The wanted branch or tag; empty for the remote's default, loudly where it is a stand-in.

        Raises:
            GitCloneFailed: The remote lacks it, and no other will do.
        """
        branch = self.wanted.branch
        if not branch:
            return ""
        refs = (f"refs/heads/{branch}", f"refs/tags/{branch}")
        found = await self("ls-remote", "--exit-code", self.url, *refs, check=False)
        if found.status != _NO_SUCH_REF:
            return branch  # or no answer, of which the next command tells the cause
        if not self.wanted.or_default:
            raise GitCloneFailed(
                url=self.url, target=self.target, wanted=branch, cause=GitCause.REF
            )
        self.ctx.report(
            f"WARNING: {self.url} has no branch {branch}; its default branch is used instead"
        )
        return ""

    async def submodules(self, folder: Path) -> None:
        """Bring submodules to what the commit says, from where it says."""
        await self("submodule", "sync", "--quiet", "--recursive", cwd=folder)
        await self("submodule", "update", "--quiet", "--init", "--recursive", cwd=folder)

    async def remember(self, folder: Path, put: str = "") -> None:
        """Write down in the clone what was wanted, and the commit that was put there, if any."""
        await self("config", f"{_SECTION}.wanted", self.wanted.ref, cwd=folder)
        if put:
            await self("config", f"{_SECTION}.head", put, cwd=folder)

    async def remembered(self, folder: Path) -> tuple[str, str]:
        """What was wanted of a clone of ours, and what was put there; empty for others' clones."""
        wanted = await self.text("config", "--get", f"{_SECTION}.wanted", cwd=folder)
        return wanted, await self.text("config", "--get", f"{_SECTION}.head", cwd=folder)
