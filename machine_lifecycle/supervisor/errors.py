"""What can go wrong with processes."""

from __future__ import annotations

import shlex
from typing import ClassVar

import attrs

from machine_lifecycle.errors import ConfigurationError, LifecycleError, Remedy

__all__ = [
    "EnvFilesUnusable",
    "LimitsUnusable",
    "NeedsUnmet",
    "ProcessFailed",
    "ProcessNotRunning",
    "ProcessesLeft",
    "ProgramNotFound",
    "SecretMissing",
    "UnknownProcess",
]


@attrs.define(kw_only=True, slots=False, eq=False)
class ProgramNotFound(LifecycleError):
    """A process can't start because its program or its working directory can't be used.

    Attributes:
        process: Who can't start.
        path: What can't be used.
        reason: What the system said.
    """

    code: ClassVar[str] = "program-not-found"

    process: str
    path: str
    reason: str

    @property
    def summary(self) -> str:
        """Which program of whom, and why."""
        return f"{self.process} can't start {self.path}: {self.reason}"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """Look for the file; bring it."""
        path = shlex.quote(self.path)
        look = f"ls -l {path}" if "/" in self.path else f"command -v {path}; echo $PATH"
        return (
            Remedy("Look whether it is there and may be executed", look),
            Remedy("If an installation is to bring it, install again", "machine-lifecycle install"),
        )


@attrs.define(kw_only=True, slots=False, eq=False)
class LimitsUnusable(ConfigurationError):
    """A process can't have the limits here that are asked for.

    Attributes:
        process: Whose they are.
        problems: Everything that stands against them.
    """

    code: ClassVar[str] = "limits-unusable"

    process: str
    problems: tuple[str, ...]

    @property
    def summary(self) -> str:
        """Whose limits, and all that is wrong."""
        return f"{self.process} can't have its limits: {'; '.join(self.problems)}"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """See what there is; or ask for less."""
        return (
            Remedy("See what we may ourselves", "ulimit -Ha; nproc; id; nice"),
            Remedy("Ask for less under `limits` of the service in the mapping"),
        )


@attrs.define(kw_only=True, slots=False, eq=False)
class EnvFilesUnusable(ConfigurationError):
    """A process can't have the variables that files are to give it.

    Attributes:
        process: Whose they are.
        problems: Everything that stands against them, without any value.
    """

    code: ClassVar[str] = "env-files-unusable"

    process: str
    problems: tuple[str, ...]

    @property
    def summary(self) -> str:
        """Whose variables, and all that is wrong."""
        return f"{self.process} can't have its variables: {'; '.join(self.problems)}"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """Write the file; or do without it."""
        return (
            Remedy("Write lines of `NAME=value` into the file, quotes where there are blanks"),
            Remedy("Put `-` before its path in `env_files` if it need not be there"),
        )


@attrs.define(kw_only=True, slots=False, eq=False)
class ProcessFailed(LifecycleError):
    """A process was given up, or can't become ready any more.

    Attributes:
        process: Its name.
        reason: How it ended, and why it isn't started again.
        restarts: How often it was restarted.
        log: Its log file.
    """

    code: ClassVar[str] = "process-failed"

    process: str
    reason: str
    restarts: int = 0
    log: str = ""

    @property
    def summary(self) -> str:
        """Who failed, and how."""
        count = f"{self.restarts} restart{'s'[: self.restarts > 1]}"
        times = f" after {count}" if self.restarts else ""
        return f"{self.process} failed{times}: {self.reason}"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """Read its log; look who killed it; start it again."""
        kernel = Remedy(
            "Nobody of the machine killed it; see whether the kernel did, for want of memory",
            "dmesg -T | grep -i -A1 'out of memory'",
        )
        return (
            Remedy("Read its log", f"tail -n 100 {self.log}"),
            *((kernel,) if "SIGKILL" in self.reason else ()),
            Remedy("Start it again", f"machine-lifecycle restart {self.process}"),
        )


@attrs.define(kw_only=True, slots=False, eq=False)
class SecretMissing(ConfigurationError):
    """A process needs a secret that is not set.

    Attributes:
        process: Who needs it.
        variable: Its name.
    """

    code: ClassVar[str] = "secret-missing"

    process: str
    variable: str

    @property
    def summary(self) -> str:
        """Which variable, for whom."""
        return f"{self.process} needs the secret {self.variable}, which is not set"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """Set it."""
        return (Remedy("Set it in the environment or in .env", f"export {self.variable}=…"),)


@attrs.define(kw_only=True, slots=False, eq=False)
class UnknownProcess(LifecycleError):
    """No process has this name.

    Attributes:
        process: The name that was given.
        known: All there are.
    """

    code: ClassVar[str] = "unknown-process"

    process: str
    known: tuple[str, ...]

    @property
    def summary(self) -> str:
        """The name, and those there are."""
        return f"there is no process {self.process!r}; there are: {', '.join(self.known) or 'none'}"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """List them."""
        return (Remedy("List the processes", "machine-lifecycle ps"),)


@attrs.define(kw_only=True, slots=False, eq=False)
class ProcessNotRunning(LifecycleError):
    """A signal was for a process that does not run at the moment.

    Attributes:
        process: Its name.
    """

    code: ClassVar[str] = "process-not-running"

    process: str

    @property
    def summary(self) -> str:
        """Which process."""
        return f"{self.process} does not run now"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """See why; start it."""
        return (
            Remedy("See how it does", "machine-lifecycle ps"),
            Remedy("Start it", f"machine-lifecycle start {self.process}"),
        )


@attrs.define(kw_only=True, slots=False, eq=False)
class NeedsUnmet(ConfigurationError):
    """Processes wait for something that can never be ready.

    Attributes:
        process: Who waits.
        needs: Names it needs that nobody has, or a circle of names that wait for each other.
    """

    code: ClassVar[str] = "needs-unmet"

    process: str
    needs: tuple[str, ...]

    @property
    def summary(self) -> str:
        """Who waits for what."""
        return f"{self.process} needs {', '.join(self.needs)}, which can never be ready"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """Correct what it needs."""
        return (Remedy(f"Add these processes, or take them out of the `needs` of {self.process}"),)


@attrs.define(kw_only=True, slots=False, eq=False)
class ProcessesLeft(LifecycleError):
    """Processes did not end in time though they were killed: they hang in the kernel, or it takes
    back so much memory that a short stop was not enough for it.

    Attributes:
        pids: Their numbers.
    """

    code: ClassVar[str] = "processes-left"

    pids: tuple[int, ...]

    @property
    def summary(self) -> str:
        """Which processes."""
        return f"killed, but still there: {', '.join(map(str, self.pids))}"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """See what they wait for; a driver or a network file system, mostly."""
        pids = ",".join(map(str, self.pids))
        return (Remedy("See what they wait for", f"ps -o pid,stat,wchan:32,args -p {pids}"),)
