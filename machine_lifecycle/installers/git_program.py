"""The program git, spoken to about one repository and the folder it belongs into."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

import attrs

from machine_lifecycle.installers.errors import CommandFailed, CommandTimeout
from machine_lifecycle.installers.git_causes import cause_in, retry_after_in
from machine_lifecycle.installers.git_errors import GitCause, GitCloneFailed
from machine_lifecycle.installers.hosts import Hosts
from machine_lifecycle.installers.repository import Repository
from machine_lifecycle.model.installing import CommandResult, StepContext

__all__ = ["Git", "quoted"]

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
        hosts: What is known of those that are asked.
    """

    ctx: StepContext
    wanted: Repository
    target: Path
    env: Mapping[str, str] = attrs.field(repr=False)
    hosts: Hosts = attrs.field(factory=Hosts)

    @property
    def url(self) -> str:
        """Its address, without credentials."""
        return self.wanted.plain_url

    async def __call__(
        self, *words: str, cwd: Path | None = None, check: bool = True
    ) -> CommandResult:
        """Run git; without a folder of its own, nowhere in particular."""
        return await self.ctx.run_command(["git", *words], env=self.env, cwd=cwd, check=check)

    async def network(
        self, *words: str, cwd: Path | None = None, check: bool = True
    ) -> CommandResult:
        """Run git where it asks the repository's host.

        Raises:
            CommandFailed: It ended badly; with the time after which the host wants to be asked.
            HostDown: The host is known not to answer.
        """
        try:
            return await self.hosts.ask(
                self.url, lambda: self._traced(words, cwd), _is_silence, direct=self._direct
            )
        except CommandTimeout:
            raise
        except CommandFailed as error:
            if check:
                raise
            return CommandResult(status=error.status, output="", tail=error.context, seconds=0.0)

    @property
    def _direct(self) -> bool:
        """Whether it goes to the host itself, as far as its environment tells."""
        names = [name.lower() for name in self.env]
        said = [value.lower() for name, value in self.env.items() if "CONFIG_KEY" in name]
        another_way = any("proxy" in name or "insteadof" in name for name in (*names, *said))
        return not another_way and self.env.get("GIT_CONFIG_GLOBAL") == "/dev/null"

    async def _traced(self, words: tuple[str, ...], cwd: Path | None) -> CommandResult:
        """What a server wants to be waited for, only curl hears; it hides what is secret."""
        with tempfile.NamedTemporaryFile(prefix="machine-lifecycle-git-") as trace:
            env = {**self.env, "GIT_TRACE_CURL": trace.name, "GIT_TRACE_CURL_NO_DATA": "1"}
            try:
                return await self.ctx.run_command(["git", *words], env=env, cwd=cwd)
            except CommandFailed as error:
                error.retry_after = retry_after_in(trace.read().decode("utf-8", "replace"))
                raise

    async def local(self, place: Path, commit: str, *, cwd: Path, keep: bool = False) -> None:
        """Fetch ``refs/locked/COMMIT`` alone from a repository of this machine.

        Args:
            place: That repository.
            commit: Full hash.
            cwd: The one it is fetched into.
            keep: Whether it has the same name there.
        """
        # These may forbid folders as sources.
        forbids = {"GIT_ALLOW_PROTOCOL", "GIT_PROTOCOL_FROM_USER"}
        env = {name: value for name, value in self.env.items() if name not in forbids}
        words = ("fetch", "--quiet", "--depth", "1", "--no-tags", "--no-recurse-submodules")
        name = f"refs/locked/{commit}"
        argv = ["git", *words, "--", str(place), f"{name}:{name}" if keep else name]
        await self.ctx.run_command(argv, env=env, cwd=cwd)

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
        found = await self.network("ls-remote", "--exit-code", self.url, *refs, check=False)
        if found.status != _NO_SUCH_REF:
            return branch  # it is there; or nobody answers, and the next command says why
        if not self.wanted.or_default:
            raise GitCloneFailed(
                url=self.url, target=self.target, wanted=branch, cause=GitCause.REF
            )
        self.ctx.report(
            f"WARNING: {self.url} has no branch {branch}; its default branch is used instead"
        )
        return ""

    def remembering(self, put: str) -> str:
        """What a new clone's configuration says of where it is from, and of what ``remember``
        writes down.
        """
        return (
            f'[remote "origin"]\n\turl = {quoted(self.url)}\n'
            "\tfetch = +refs/heads/*:refs/remotes/origin/*\n"
            f"[{_SECTION}]\n\twanted = {quoted(self.wanted.ref)}\n\thead = {put}\n"
        )

    async def remember(self, folder: Path, put: str = "") -> None:
        """Write down in the clone what was wanted, and the commit that was put there, if any."""
        await self("config", f"{_SECTION}.wanted", self.wanted.ref, cwd=folder)
        if put:
            await self("config", f"{_SECTION}.head", put, cwd=folder)

    async def remembered(self, folder: Path) -> tuple[str, str]:
        """What was wanted of a clone of ours, and what was put there; empty for others' clones."""
        wanted = await self.text("config", "--get", f"{_SECTION}.wanted", cwd=folder)
        return wanted, await self.text("config", "--get", f"{_SECTION}.head", cwd=folder)


def quoted(text: str) -> str:
    """As a value in git's configuration (git-config(1))."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _is_silence(error: CommandFailed) -> bool:
    return isinstance(error, CommandTimeout) or cause_in(error.context) is GitCause.NETWORK
