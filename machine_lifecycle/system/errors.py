"""What can be wrong with the machine's folders and its id, and when there is no machine."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import ClassVar

import attrs

from machine_lifecycle.errors import ConfigurationError, ExitCode, LifecycleError, Remedy

__all__ = [
    "BadFolder",
    "BadMachineId",
    "FileNotRead",
    "FileNotWritten",
    "MachineNotRunning",
    "OutputNotWritten",
]


@attrs.define(kw_only=True, slots=False, eq=False)
class BadFolder(ConfigurationError):
    """A folder that the machine needs can't be used.

    Attributes:
        folder: Its path.
        problem: What is wrong with it, in words.
        variable: Variable that names another one.
    """

    code: ClassVar[str] = "bad-folder"

    folder: Path
    problem: str
    variable: str

    @property
    def summary(self) -> str:
        """The folder and what is wrong."""
        return f"{self.folder} {self.problem}"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """See it; name another one."""
        example = "/tmp/ml" if self.variable == "MACHINE_RUNTIME_DIR" else "$HOME/machine"  # noqa: S108
        return (
            Remedy(
                "See who owns it, and how much room there is",
                f"ls -ld {self.folder}; df -h {self.folder}",
            ),
            Remedy("Or name another folder", f"export {self.variable}={example}"),
        )


@attrs.define(kw_only=True, slots=False, eq=False)
class FileNotRead(ConfigurationError):
    """A file that a setting, the service mapping or a service names can't be read.

    Attributes:
        path: The file.
        reason: Why not, in the system's words, or that it is no UTF-8 text.
        variable: The setting, if it is one.
    """

    code: ClassVar[str] = "file-not-read"

    path: Path
    reason: str
    variable: str = ""

    @property
    def summary(self) -> str:
        """Which, and why."""
        named = f"{self.variable}={self.path}" if self.variable else str(self.path)
        return f"{named} can't be read: {self.reason}"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """See what is there; do without it."""
        folder = shlex.quote(str(self.path.parent))
        without = Remedy("Or do without it", f"unset {self.variable}")
        return (
            Remedy("See what is there, and who may read it", f"ls -l {folder}"),
            *((without,) if self.variable else ()),
        )


@attrs.define(kw_only=True, slots=False, eq=False)
class FileNotWritten(ConfigurationError):
    """A file that was asked for can't be written. What was there before stays as it was.

    Attributes:
        path: The file.
        reason: Why not, in the system's words.
    """

    code: ClassVar[str] = "file-not-written"

    path: Path
    reason: str

    @property
    def summary(self) -> str:
        """Which, and why."""
        return f"{self.path} can't be written: {self.reason}"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """See its folder; name another one."""
        folder = shlex.quote(str(self.path.parent))
        return (
            Remedy(
                "See who owns its folder, and how much room there is; or name another file",
                f"ls -ld {folder}; df -h {folder}",
            ),
        )


@attrs.define(kw_only=True, slots=False, eq=False)
class OutputNotWritten(LifecycleError):
    """What a command prints can't be written where its output goes. What it did by then stays done.

    Attributes:
        reason: Why not, in the system's words.
        text: What was to be printed: the id of a job, say.
    """

    code: ClassVar[str] = "output-not-written"
    exit_code: ClassVar[int] = ExitCode.OUTPUT_NOT_WRITTEN
    recoverable: ClassVar[bool] = False

    reason: str
    text: str

    def __attrs_post_init__(self) -> None:
        """Tell it here, where it can be told."""
        self.context: tuple[str, ...] = self.context or tuple(self.text.splitlines())

    @property
    def summary(self) -> str:
        """Why not."""
        return f"stdout can't be written: {self.reason}"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """Make room."""
        return (
            Remedy(
                "Make room where the output goes; what the command did stays done",
                "df -h",
            ),
        )


@attrs.define(kw_only=True, slots=False, eq=False)
class BadMachineId(ConfigurationError):
    """The machine's id can't stand in the queue's keys.

    Attributes:
        machine_id: The id.
        origin: Where it comes from.
    """

    code: ClassVar[str] = "bad-machine-id"

    machine_id: str
    origin: str

    @property
    def summary(self) -> str:
        """The id and where it comes from."""
        return (
            f"the machine id {self.machine_id!r} (from {self.origin}) may hold only letters, "
            "digits, `.`, `_` and `-`, and at most 128 of them"
        )

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """Set one that can be used."""
        allowed = [one if one.isascii() and one.isalnum() else "-" for one in self.machine_id]
        name = "".join(allowed).strip("-")[:64] or "machine-1"
        return (Remedy("Set one that can be used", f"export MACHINE_ID={name}"),)


@attrs.define(kw_only=True, slots=False, eq=False)
class MachineNotRunning(LifecycleError):
    """No machine runs here.

    Attributes:
        path: Where a running machine is met: its control socket, or the file that names its queue.
        reason: Why nobody is met there.
        beside: Runtime folders of machines that run beside it, of other workspaces.
        instead: What would do without a machine, where something would.
    """

    code: ClassVar[str] = "machine-not-running"

    path: Path
    reason: str
    beside: tuple[Path, ...] = ()
    instead: tuple[Remedy, ...] = ()

    @property
    def summary(self) -> str:
        """Where it was looked for."""
        return f"no machine is running here ({self.path}: {self.reason})"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """Start one, or look where it is."""
        return (
            Remedy("Start it", "machine-lifecycle boot"),
            *self._others(),
            *self.instead,
        )

    def _others(self) -> tuple[Remedy, ...]:
        if self.beside:
            told = "If you mean the one of another workspace, name its runtime folder"
            return tuple(
                Remedy(told, f"export MACHINE_RUNTIME_DIR={shlex.quote(str(folder))}")
                for folder in self.beside
            )
        told = "If it runs with another workspace, name that (or its MACHINE_RUNTIME_DIR)"
        return (Remedy(told, "export WORKSPACE_PATH=…"),)
