"""What can be wrong with the words of a command line."""

from __future__ import annotations

from typing import ClassVar

import attrs

from machine_lifecycle.errors import ConfigurationError, Remedy

__all__ = ["UsageRefused"]


@attrs.define(kw_only=True, slots=False, eq=False)
class UsageRefused(ConfigurationError):
    """The words of a command line are none that the command takes.

    Without ``--json`` the same is told as a sentence, below the command's usage.

    Attributes:
        command: The command, as it is typed.
        reason: What is wrong with its words.
    """

    code: ClassVar[str] = "usage-refused"

    command: str
    reason: str

    @property
    def summary(self) -> str:
        """What is wrong."""
        return f"{self.command}: {self.reason}"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """See what it takes."""
        return (Remedy("See what it takes", f"{self.command} --help"),)
