"""What can go wrong while a service is brought to disk."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import ClassVar

import attrs

from machine_lifecycle.errors import ConfigurationError, LifecycleError, Remedy

__all__ = [
    "CommandFailed",
    "CommandTimeout",
    "DiskFull",
    "InstallerBroken",
    "PackagesFailed",
    "ProgramMissing",
    "StepCrashed",
    "StepTimeout",
    "TorchChanged",
    "VerificationFailed",
]


@attrs.define(kw_only=True, slots=False, eq=False)
class CommandFailed(LifecycleError):
    """A program ended with another status than 0.

    Attributes:
        argv: Program and arguments.
        status: Exit status; negative for a signal.
        log: File with all of its output.
    """

    code: ClassVar[str] = "install-command-failed"

    argv: tuple[str, ...]
    status: int
    log: Path

    @property
    def summary(self) -> str:
        """Which program, and its status."""
        how = f"status {self.status}" if self.status >= 0 else f"signal {-self.status}"
        return f"{Path(self.argv[0]).name} ended with {how}"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """Where all of its output is."""
        return (Remedy("Read all of its output", f"less {shlex.quote(str(self.log))}"),)


@attrs.define(kw_only=True, slots=False, eq=False)
class CommandTimeout(CommandFailed):
    """A program did not end in time.

    Attributes:
        limit: Seconds it was given.
    """

    code: ClassVar[str] = "install-command-timeout"

    limit: float

    @property
    def summary(self) -> str:
        """Which program, and its limit."""
        return f"{Path(self.argv[0]).name} did not end within {self.limit:g} s"


@attrs.define(kw_only=True, slots=False, eq=False)
class ProgramMissing(LifecycleError):
    """A program that an installation needs is not there.

    Attributes:
        program: As it was called.
    """

    code: ClassVar[str] = "program-missing"
    recoverable: ClassVar[bool] = False

    program: str

    @property
    def summary(self) -> str:
        """Which program."""
        return f"the program {self.program} is not there, or may not be run"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """Install it."""
        return (Remedy(f"Install {self.program} and have it on PATH"),)


@attrs.define(kw_only=True, slots=False, eq=False)
class PackagesFailed(LifecycleError):
    """Python packages could not be installed.

    Attributes:
        what: The requirements, as a file or a list.
        python: The environment's interpreter.
        log: File with all of the output.
    """

    code: ClassVar[str] = "packages-failed"

    what: str
    python: Path
    log: Path

    @property
    def summary(self) -> str:
        """What could not be installed."""
        return f"could not install {self.what} for {self.python}"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """Where to look."""
        return (
            Remedy("Read all of the output", f"less {shlex.quote(str(self.log))}"),
            Remedy("Name an index or a folder of wheels in UV_DEFAULT_INDEX or UV_FIND_LINKS"),
        )


@attrs.define(kw_only=True, slots=False, eq=False)
class TorchChanged(LifecycleError):
    """An installation replaced torch; the version that was there has been put back.

    Attributes:
        before: Package and version, as pinned.
        after: As found.
        by: The step that did it.
    """

    code: ClassVar[str] = "torch-changed"
    recoverable: ClassVar[bool] = False

    before: str
    after: str
    by: str

    @property
    def summary(self) -> str:
        """What changed."""
        return f"{self.by} changed {self.before} to {self.after}"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """Leave the pack out, or mend its script."""
        return (Remedy(f"Take {self.by} out of the list, or keep its script off torch"),)


@attrs.define(kw_only=True, slots=False, eq=False)
class VerificationFailed(LifecycleError):
    """What was installed does not run.

    Attributes:
        service: Its name.
        command: What was tried, as a shell line.
    """

    code: ClassVar[str] = "verification-failed"

    service: str
    command: str

    @property
    def summary(self) -> str:
        """What does not run."""
        return f"{self.service} is installed but does not run"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """Try it by hand."""
        return (Remedy("Try it by hand", self.command),)


@attrs.define(kw_only=True, slots=False, eq=False)
class DiskFull(LifecycleError):
    """There is no space left where something is installed.

    Attributes:
        folder: Where it was being installed.
    """

    code: ClassVar[str] = "disk-full"

    folder: Path

    @property
    def summary(self) -> str:
        """Where."""
        return f"no space left for {self.folder}"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """Make room."""
        return (Remedy("Make room", f"df -h {shlex.quote(str(self.folder))}"),)


@attrs.define(kw_only=True, slots=False, eq=False)
class StepTimeout(LifecycleError):
    """A step of an installation did not end in time.

    Attributes:
        step: Its id.
        limit: Seconds it was given.
    """

    code: ClassVar[str] = "install-step-timeout"

    step: str
    limit: float

    @property
    def summary(self) -> str:
        """Which step, and its limit."""
        return f"step {self.step} did not end within {self.limit:g} s"


@attrs.define(kw_only=True, slots=False, eq=False)
class StepCrashed(LifecycleError):
    """A step of an installation raised something that is no description of a problem.

    Attributes:
        step: Its id.
        problem: Type and text of what was raised.
    """

    code: ClassVar[str] = "install-step-crashed"

    step: str
    problem: str

    @property
    def summary(self) -> str:
        """Which step, and what it raised."""
        return f"step {self.step}: {self.problem}"


@attrs.define(kw_only=True, slots=False, eq=False)
class InstallerBroken(ConfigurationError):
    """An installer can't be loaded, or its steps make no sense.

    Attributes:
        installer: As named by the plan.
        problem: What is wrong with it.
    """

    code: ClassVar[str] = "installer-broken"

    installer: str
    problem: str

    @property
    def summary(self) -> str:
        """Which installer, and why."""
        return f"installer {self.installer!r}: {self.problem}"
