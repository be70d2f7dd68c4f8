"""What can be wrong with the machine's folders and its id."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import attrs

from machine_lifecycle.errors import ConfigurationError, Remedy

__all__ = ["BadFolder", "BadMachineId"]


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
            Remedy("See who owns it", f"ls -ld {self.folder}"),
            Remedy("Or name another folder", f"export {self.variable}={example}"),
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
