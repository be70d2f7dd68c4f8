"""What can be wrong with something the user wrote."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import attrs

from machine_lifecycle.errors import ConfigurationError, Problems, Remedy

__all__ = [
    "EnvFileUnreadable",
    "MappingInvalid",
    "ModelsInvalid",
    "NodesInvalid",
    "SettingInvalid",
    "WorkersInvalid",
    "raise_problems",
]


@attrs.define(kw_only=True, slots=False, eq=False)
class EnvFileUnreadable(ConfigurationError):
    """The file with settings can't be read.

    Attributes:
        path: The file.
        reason: What the system said, or that it is no UTF-8 text.
    """

    code: ClassVar[str] = "env-file-unreadable"

    path: Path
    reason: str

    @property
    def summary(self) -> str:
        """The file and the reason."""
        return f"the settings in {self.path} can't be read: {self.reason}"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """Look at it; name another one."""
        return (
            Remedy("See whose it is and who may read it", f"ls -l {shlex.quote(str(self.path))}"),
            Remedy("Name another file", "machine-lifecycle --env-file settings.env plan"),
        )


@attrs.define(kw_only=True, slots=False, eq=False)
class SettingInvalid(ConfigurationError):
    """A setting can't be used.

    Attributes:
        variable: Environment variable.
        written: Where it stands: ``the environment``, ``.env line 3``.
        value: As written; a mask for secrets.
        problem: What is wrong with it, in words.
        example: A value that would do.
    """

    code: ClassVar[str] = "setting-invalid"

    variable: str
    written: str
    value: str
    problem: str
    example: str = ""

    @property
    def summary(self) -> str:
        """The variable, where it stands and what is wrong."""
        return f"{self.variable}={self.value} in {self.written}: {self.problem}"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """A value that would do, or none at all."""
        remove = "or remove" if self.example else "Remove"
        unset = Remedy(f"{remove} it to get the default", f"unset {self.variable}")
        if self.written != "the environment":
            unset = Remedy(f"{remove} the line from {self.written.partition(' line')[0]}")
        if not self.example:
            return (unset,)
        if self.written != "the environment":
            return (Remedy(f"Write {self.variable}={self.example} in {self.written}"), unset)
        return (
            Remedy("Set a value that can be used", f"export {self.variable}={self.example}"),
            unset,
        )


@attrs.define(kw_only=True, slots=False, eq=False)
class WorkersInvalid(ConfigurationError):
    """An item of WORKERS can't be read.

    Attributes:
        item: As written.
        position: From 1, among the items; 0 for the text as a whole.
        problem: What is wrong with it, in words.
        example: An item that would do.
    """

    code: ClassVar[str] = "workers-invalid"

    item: str
    position: int
    problem: str
    example: str = "comfyui:1"

    @property
    def summary(self) -> str:
        """The item and what is wrong."""
        if not self.position:
            return f"WORKERS: {self.problem}"
        return f"WORKERS item {self.position}, `{self.item}`: {self.problem}"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """A text that would do."""
        return (
            Remedy("Write `type`, `type:count` or `type:auto`", f"export WORKERS={self.example}"),
        )


@attrs.define(kw_only=True, slots=False, eq=False)
class _FileInvalid(ConfigurationError):
    """A place in a file can't be used.

    Attributes:
        source: The file.
        path: The place, as a JSON path: ``$.workers.comfyui.services[0]``.
        line: From 1; 0 where it is not known.
        column: From 1; 0 where it is not known.
        problem: What is wrong there, in words.
        hint: What to write instead, in words; may be empty.
    """

    source: str
    path: str
    line: int = 0
    column: int = 0
    problem: str
    hint: str = ""

    @property
    def place(self) -> str:
        """File, line and column, as editors understand it."""
        numbers = [str(number) for number in (self.line, self.column) if number]
        return ":".join([self.source, *numbers])

    @property
    def summary(self) -> str:
        """The place and what is wrong."""
        return f"{self.place}: {self.path}: {self.problem}"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """What to write instead."""
        return (Remedy(f"{self.hint} ({self.place})"),) if self.hint else ()


@attrs.define(kw_only=True, slots=False, eq=False)
class MappingInvalid(_FileInvalid):
    """A place in the service mapping can't be used."""

    code: ClassVar[str] = "mapping-invalid"


@attrs.define(kw_only=True, slots=False, eq=False)
class NodesInvalid(_FileInvalid):
    """A place in the list of custom nodes can't be used."""

    code: ClassVar[str] = "nodes-invalid"


@attrs.define(kw_only=True, slots=False, eq=False)
class ModelsInvalid(_FileInvalid):
    """A place in the list of models can't be used."""

    code: ClassVar[str] = "models-invalid"


def raise_problems(subject: str, errors: Sequence[ConfigurationError]) -> None:
    """Raise *errors* as one group; return if there are none.

    Raises:
        Problems: All of *errors*.
    """
    if errors:
        raise Problems(subject=subject, errors=tuple(errors))
