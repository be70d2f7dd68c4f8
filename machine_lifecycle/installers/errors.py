"""What can go wrong while a service is brought to disk."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import ClassVar

import attrs

from machine_lifecycle.errors import ConfigurationError, LifecycleError, Remedy, import_remedies
from machine_lifecycle.model.text import human_seconds

__all__ = [
    "CommandFailed",
    "CommandTimeout",
    "DiskFull",
    "HostDown",
    "InstallerBroken",
    "ModelsFolderUnusable",
    "PackTimeout",
    "ProgramMissing",
    "StepCrashed",
    "StepTimeout",
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


def _mib(size: int) -> str:
    return f"{size / (1 << 20):,.0f} MiB"


@attrs.define(kw_only=True, slots=False, eq=False)
class DiskFull(LifecycleError):
    """There is no space left where something is installed.

    Attributes:
        folder: Where there is none.
        free: Bytes that were free there when it was noticed.
        needed: Bytes that what is installed takes, roughly; 0: not known.
    """

    code: ClassVar[str] = "disk-full"
    recoverable: ClassVar[bool] = False

    folder: Path
    free: int
    needed: int = 0

    @property
    def summary(self) -> str:
        """Where, how much there is, and how much it takes."""
        needed = f", about {_mib(self.needed)} needed" if self.needed else ""
        return f"no space left in {self.folder}: {_mib(self.free)} free{needed}"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """Make room, or go elsewhere."""
        folder = shlex.quote(str(self.folder))
        more = max(self.needed - self.free, 0)
        text = f"Make room for {_mib(more)}" if more else "Make room"
        return (
            Remedy("See what takes the room", f"df -h {folder}; du -xh -d2 {folder} | sort -h"),
            Remedy(f"{text} in {self.folder}, then boot again: what is done stays done"),
            Remedy("Or install on a larger disk", "export WORKSPACE_PATH=/another/folder"),
        )


@attrs.define(kw_only=True, slots=False, eq=False)
class HostDown(LifecycleError):
    """A host gave no answer, again and again: nothing more is asked of it.

    Attributes:
        host: Its name.
        url: What was asked for last, without credentials.
        problem: What the system said, if it was asked for a file; else git was sent there.
    """

    code: ClassVar[str] = "host-down"

    host: str
    url: str
    problem: str = ""

    @property
    def summary(self) -> str:
        """Which host, and what was said."""
        return f"{self.host} does not answer" + (f": {self.problem}" if self.problem else "")

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """See whether it can be reached from here; name a way that leads there."""
        look = ("curl", "-I") if self.problem else ("git", "ls-remote")
        own = Remedy("With certificates of your own, name them", "export SSL_CERT_FILE=/a/file.pem")
        return (
            Remedy("See whether it can be reached", shlex.join((*look, self.url))),
            Remedy("Behind a proxy, name it", "export HTTPS_PROXY=http://proxy.example.org:3128"),
            *((own,) if self.problem else ()),
        )


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

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """Go on."""
        return (Remedy("Go on; what is done is not done again", "machine-lifecycle install"),)


@attrs.define(kw_only=True, slots=False, eq=False)
class PackTimeout(LifecycleError):
    """A node pack that is not required was gone on without: it took too long.

    Attributes:
        pack: Its name.
        step: What was being done for it, or was to be done next.
        limit: Seconds that such packs are waited for.
        log: File with the output of that.
    """

    code: ClassVar[str] = "install-pack-timeout"

    pack: str
    step: str
    limit: float
    log: Path

    @property
    def summary(self) -> str:
        """Which pack, what it was at, and the limit."""
        within = human_seconds(self.limit)
        return f"{self.pack} was not in within {within} (MACHINE_PACKS_TIMEOUT): {self.step}"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """See what takes so long; wait longer."""
        longer = f"export MACHINE_PACKS_TIMEOUT={2 * self.limit:g}"
        return (
            Remedy("See what it was doing", f"tail {shlex.quote(str(self.log))}"),
            Remedy("It is tried again by the next boot; or wait longer for such packs", longer),
        )


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

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """Tell whoever wrote the installer."""
        return (
            Remedy("Gather what whoever wrote its installer needs", "machine-lifecycle diagnose"),
        )


@attrs.define(kw_only=True, slots=False, eq=False)
class InstallerBroken(ConfigurationError):
    """An installer can't be loaded, or its steps make no sense.

    Attributes:
        installer: As named by the plan.
        problem: What is wrong with it.
        folder: Where its module lies, if it is not found for want of a path.
    """

    code: ClassVar[str] = "installer-broken"

    installer: str
    problem: str
    folder: str = ""

    @property
    def summary(self) -> str:
        """Which installer, and why."""
        return f"installer {self.installer!r}: {self.problem}"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """Put it on the path; try to import it."""
        module, _, attribute = self.installer.partition(":")
        if attribute:
            return import_remedies(module, self.folder)
        return (Remedy("Mend that; then see what would be done", "machine-lifecycle plan"),)


@attrs.define(kw_only=True, slots=False, eq=False)
class ModelsFolderUnusable(ConfigurationError):
    """A folder for models that the settings name is not there and can't be made.

    Attributes:
        folder: As named.
        problem: Why not.
        variable: What names it.
    """

    code: ClassVar[str] = "models-folder-unusable"

    folder: Path
    problem: str
    variable: str = "COMFYUI_MODELS_PATH"

    @property
    def summary(self) -> str:
        """Which folder, and why."""
        return f"the folder of models {self.folder} can't be used: {self.problem}"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """See what is there; name another."""
        parent = shlex.quote(str(self.folder.parent))
        return (
            Remedy("See what is mounted there", f"ls -ld {parent}; df {parent}"),
            Remedy("Or name another folder", f"export {self.variable}=/path/to/models"),
            Remedy("Or do without such a folder", f"unset {self.variable}"),
        )
