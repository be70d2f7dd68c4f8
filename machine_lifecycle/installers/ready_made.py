"""Installers that are values: packages in an environment, or a repository with what it requires.

A service names one by ``module:attribute``; its steps are those of ComfyUI's installation, so that
they are journaled, skipped when they are done, tried again and mended like those.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

import attrs
from packaging.requirements import InvalidRequirement, Requirement

from machine_lifecycle.errors import Problems
from machine_lifecycle.installers.base import fingerprint
from machine_lifecycle.installers.blocklist import blocked_packages
from machine_lifecycle.installers.errors import CommandFailed, InstallerBroken, VerificationFailed
from machine_lifecycle.installers.hosts import Hosts
from machine_lifecycle.installers.origins import Origins
from machine_lifecycle.installers.packages import TORCH_FAMILY, Environment, torch_backend
from machine_lifecycle.installers.repository import Repository, check_repository, with_git_config
from machine_lifecycle.installers.steps import PACKAGES, bringing, nothing, requiring
from machine_lifecycle.model.installing import InstallContext, Step, StepContext
from machine_lifecycle.system.files import read_named

__all__ = ["GitInstaller", "PipInstaller"]

_LIMIT = 1800.0
"""Seconds for one installation of packages: torch with CUDA is some GiB."""


@attrs.frozen(kw_only=True)
class PipInstaller:
    """Installs Python packages into an environment of the service's own.

    The environment is ``venv`` in the service's folder: ``instance.home / "venv/bin/python"``.
    Where packages come from is said by pip's and uv's usual variables (``PIP_INDEX_URL`` …).

    Attributes:
        packages: Requirements, as in a requirements file; pin them: what is installed stays until
            a line changes.
        requirements: A requirements file; it is installed again when its text changes.
        torch: Whether torch comes first, in the machine's build (``TORCH_BACKEND``); packages
            can't move it then.
        proof: Arguments for the environment's Python that show that all is well, such as
            ``("-c", "import whisper")``; empty: none.
    """

    packages: tuple[str, ...] = ()
    requirements: Path | None = None
    torch: bool = False
    proof: tuple[str, ...] = ()

    def plan(self, context: InstallContext) -> tuple[Step, ...]:
        """Environment, torch if it is wanted, packages, proof.

        Raises:
            Problems: Some of ``packages`` are no requirements.
            FileNotRead: The requirements file can't be read.
        """
        _check(self.packages, context.service)
        return _Filled(context, self.packages, self.requirements, self.torch, self.proof).steps()


@attrs.frozen(kw_only=True)
class GitInstaller:
    """Clones a repository and installs what it requires into an environment of its own.

    The service's folder is the clone, and the environment is ``venv`` in it. ``repo_url``,
    ``branch`` and ``commit`` in the mapping's ``installer_config`` count before the values here.

    Attributes:
        url: Of the repository; may hold a login, so never shown.
        branch: Branch or tag; empty: the remote's default.
        commit: Hash; empty: the branch's newest at the first installation.
        recursive: Whether submodules are brought too.
        requirements: Its requirements file, relative to it; one that is not there asks for nothing.
        packages: Requirements beside those.
        torch: As for ``PipInstaller``.
        proof: As for ``PipInstaller``; run in the clone.
    """

    url: str = attrs.field(repr=False)
    branch: str = ""
    commit: str = ""
    recursive: bool = False
    requirements: str = "requirements.txt"
    packages: tuple[str, ...] = ()
    torch: bool = False
    proof: tuple[str, ...] = ()

    def plan(self, context: InstallContext) -> tuple[Step, ...]:
        """Clone, environment, torch if it is wanted, packages, proof.

        Raises:
            GitUrlRefused: The address, branch or commit is none.
            Problems: Some of ``packages`` are no requirements, or the settings don't let the
                repository come from there.
        """
        _check(self.packages, context.service)
        options = context.options
        repository = Repository(
            url=options.get("repo_url") or self.url,
            branch=options.get("branch") or self.branch,
            commit=options.get("commit") or self.commit,
            recursive=self.recursive,
        )
        check_repository(repository)
        _check_origin(context, repository)
        clone = Step(
            id="clone",
            summary=f"clone {repository.plain_url}",
            fingerprint="",
            timeout=900,
            retries=2,
            run=nothing,
        )
        file = context.home / self.requirements
        filled = _Filled(context, self.packages, file, self.torch, self.proof, after=("clone",))
        return (bringing(context, repository, context.home, clone, Hosts()), *filled.steps())


@attrs.frozen
class _Filled:
    """An environment in the service's folder, and what is put into it."""

    context: InstallContext
    packages: tuple[str, ...]
    file: Path | None
    torch: bool
    proof: tuple[str, ...]
    after: tuple[str, ...] = ()

    @property
    def environment(self) -> Environment:
        context = self.context
        backend = torch_backend(context.settings, context.hardware, context.environ)
        return Environment(
            python=context.home / "venv" / "bin" / "python",
            ours=True,
            constraints=context.home / ".machine-lifecycle" / "torch-constraints.txt",
            environ=with_git_config(context.environ, Origins.of(context.settings).git_config()),
            blocked=blocked_packages(context.settings),
            backend=backend if self.torch else "",
        )

    def steps(self) -> tuple[Step, ...]:
        environment = self.environment
        made = Step(
            id="environment",
            summary="make the Python environment",
            fingerprint=fingerprint(environment.python),
            needs=self.after,
            timeout=300,
            run=environment.make,
            present=environment.python.exists,
        )
        torch = Step(
            id="torch",
            summary=f"install {', '.join(TORCH_FAMILY)}",
            fingerprint=fingerprint(environment.backend),
            needs=("environment",),
            timeout=_LIMIT,
            retries=1,
            exclusive=PACKAGES,
            run=environment.install_torch,
            present=environment.torch_is_there,
        )
        packages = Step(
            id="packages",
            summary=f"install {', '.join(self.packages) or 'its requirements'}",
            fingerprint=fingerprint(*self.packages, self._text()),
            needs=("torch" if self.torch else "environment", *self.after),
            timeout=_LIMIT,
            retries=1,
            exclusive=PACKAGES,
            run=requiring(
                environment,
                self.file or self.context.home / "requirements.txt",
                self.packages,
                by=self.context.service,
            ),
        )
        proof = Step(
            id="proof",
            summary=f"try python {' '.join(self.proof)}",
            fingerprint=fingerprint(*self.proof),
            needs=("packages",),
            timeout=300,
            run=self._prove,
        )
        return (
            made,
            *((torch,) if self.torch else ()),
            packages,
            *((proof,) if self.proof else ()),
        )

    def _text(self) -> str:
        """What a file of the user's asks for; that of a clone changes with its commit."""
        if self.file is None or self.after:
            return ""
        return read_named(self.file)

    async def _prove(self, ctx: StepContext) -> None:
        home, environment = self.context.home, self.environment
        argv = [str(environment.python), *self.proof]
        try:
            await ctx.run_command(argv, env=environment.env, cwd=home)
        except CommandFailed as error:
            line = f"cd {shlex.quote(str(home))} && {shlex.join(argv)}"
            raise VerificationFailed(
                service=self.context.service, command=line, context=error.context[-12:]
            ) from error


def _check_origin(context: InstallContext, repository: Repository) -> None:
    errors = tuple(Origins.of(context.settings).refused((repository,)))
    if errors:
        raise Problems(subject=f"repository of {context.service}", errors=errors)


def _check(packages: tuple[str, ...], service: str) -> None:
    """Whether all are requirements: an option would reach uv's command line."""
    errors = tuple(
        InstallerBroken(installer=service, problem=f"{one!r} is no requirement: {why}")
        for one, why in _refused(packages)
    )
    if errors:
        raise Problems(subject=f"packages of {service}", errors=errors)


def _refused(packages: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    for one in packages:
        try:
            Requirement(one)
        except InvalidRequirement as error:
            yield one, str(error).splitlines()[0]
