"""The root of every error that reaches a user.

This module imports nothing of ours, so that any room may import it. Each room keeps its own error
classes in a module called ``errors``: a subclass fixes a kebab-case ``code``, takes facts as
keyword-only fields, and builds its words late in ``summary`` and ``remedies``.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import attrs

__all__ = [
    "ConfigurationError",
    "ExitCode",
    "LifecycleError",
    "Problems",
    "Remedy",
    "RemoteError",
    "as_one",
    "import_remedies",
    "our_python",
    "registered_errors",
]


class ExitCode:
    """Exit statuses of the command line.

    130, 141 and 143 are 128 plus the number of a signal, as shells report it: of the one that
    forced the end, or of SIGPIPE, which ends programs whose reader has gone. 74 is EX_IOERR of
    sysexits.h.
    """

    OK = 0
    CONFIGURATION = 2
    BOOT_FAILED = 3
    GATE_REFUSED = 4
    OUTPUT_NOT_WRITTEN = 74
    FORCED_BY_SIGINT = 130
    READER_GONE = 141
    FORCED_BY_SIGTERM = 143


@attrs.frozen
class Remedy:
    """One thing to do about an error.

    Attributes:
        text: An order in plain words, with the real port, path or host in it.
        command: A shell line that can be pasted as it is, or ``None``.
    """

    text: str
    command: str | None = None

    def __str__(self) -> str:
        return f"{self.text}: {self.command}" if self.command else self.text


def our_python(*words: str) -> str:
    """A shell line for this very Python, which has this package, whatever is on PATH."""
    return shlex.join((sys.executable, *words))


def import_remedies(module: str, folder: str = "") -> tuple[Remedy, ...]:
    """What to do about a module that can't be imported.

    Args:
        module: Its name.
        folder: Where its file lies, if that is known and is not on Python's path.
    """
    line = f"export PYTHONPATH={shlex.quote(folder)}${{PYTHONPATH:+:$PYTHONPATH}}"
    found = (Remedy(f"Put the folder that has {module} on Python's path", line),) if folder else ()
    # -P: as the machine does it, without the folder where it is typed.
    alone = our_python("-P", "-c", f"import {module}")
    return (*found, Remedy("See the whole error", alone))


_REGISTRY: dict[str, type[LifecycleError]] = {}


def _name(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


@attrs.define(kw_only=True, slots=False, eq=False)
class LifecycleError(Exception):
    """The root: a code, facts as fields, words built late, remedies.

    Attributes:
        where: State, service or step in which it happened; filled in by whoever knows it.
        context: Output or details that help a person: the last lines of a log, what is waited for.
        retry_after: Seconds before which another try is of no use; 0: not known.
    """

    code: ClassVar[str] = "lifecycle-error"
    recoverable: ClassVar[bool] = True
    """Whether another attempt could end better."""
    exit_code: ClassVar[int] = ExitCode.BOOT_FAILED

    where: str = ""
    context: tuple[str, ...] = ()
    retry_after: float = 0.0

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Register the class under its code.

        Raises:
            TypeError: Another class has this code. One of the same name in the same module has not:
                it is this one, loaded anew.
        """
        super().__init_subclass__(**kwargs)
        if "code" in cls.__dict__:
            other = _REGISTRY.setdefault(cls.code, cls)
            if _name(other) != _name(cls):
                raise TypeError(f"{_name(cls)} has the code of {_name(other)}: {cls.code}")
            _REGISTRY[cls.code] = cls

    @property
    def summary(self) -> str:
        """What happened, in one sentence."""
        return (self.__doc__ or self.code).splitlines()[0]

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """What to do about it, most likely first."""
        return ()

    def __str__(self) -> str:
        lines = [f"{self.summary} [{self.code}]"]
        lines += [f"  at: {self.where}"] if self.where else []
        lines += [f"  | {line}" for line in self.context]
        lines += [f"  remedy: {remedy}" for remedy in self.remedies]
        return "\n".join(lines)

    def to_wire(self) -> dict[str, Any]:
        """The error as JSON values: the form used in events, pages and Redis."""
        return {
            "code": self.code,
            "summary": self.summary,
            "where": self.where,
            "context": list(self.context),
            "remedies": [attrs.asdict(remedy) for remedy in self.remedies],
            "recoverable": self.recoverable,
        }

    def parts(self) -> tuple[LifecycleError, ...]:
        """The single errors in this one: itself, unless it is a group."""
        return (self,)


@attrs.define(kw_only=True, slots=False, eq=False)
class ConfigurationError(LifecycleError):
    """Something that was written by the user can't be used."""

    code: ClassVar[str] = "configuration"
    recoverable: ClassVar[bool] = False
    exit_code: ClassVar[int] = ExitCode.CONFIGURATION


@attrs.define(kw_only=True, slots=False, eq=False)
class Problems(LifecycleError):
    """Several errors found at once; all are shown.

    Attributes:
        subject: What was looked at: a file, a setting, a state.
        errors: At least one error, in the order found.
    """

    code: ClassVar[str] = "problems"

    subject: str
    errors: tuple[LifecycleError, ...] = attrs.field(validator=attrs.validators.min_len(1))

    # Facts of the group follow from its members, so they shadow the class attributes.
    @property
    def recoverable(self) -> bool:  # type: ignore[override]  # a group computes what a class fixes
        """True only if every member is."""
        return all(error.recoverable for error in self.errors)

    @property
    def exit_code(self) -> int:  # type: ignore[override]  # a group computes what a class fixes
        """That of the first member that can't heal, else that of the first."""
        worst = [error for error in self.errors if not error.recoverable] or list(self.errors)
        return worst[0].exit_code

    @property
    def summary(self) -> str:
        """How many problems of what."""
        count = len(self.errors)
        return f"{self.subject}: {count} problem{'s' if count > 1 else ''}"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """Those of all members, once each."""
        seen = dict.fromkeys(remedy for error in self.errors for remedy in error.remedies)
        return tuple(seen)

    def __str__(self) -> str:
        inner = "\n".join(f"{number}. {error}" for number, error in enumerate(self.errors, 1))
        return f"{self.summary} [{self.code}]\n{inner}"

    def to_wire(self) -> dict[str, Any]:
        """The group, and each member in full."""
        return {**super().to_wire(), "errors": [error.to_wire() for error in self.errors]}

    def parts(self) -> tuple[LifecycleError, ...]:
        """The members, and those of groups in the group."""
        return tuple(part for error in self.errors for part in error.parts())


@attrs.define(kw_only=True, slots=False, eq=False)
class RemoteError(LifecycleError):
    """An error that happened in another process, as that told it: with its own code and words.

    Attributes:
        wire: The error's wire form.
    """

    code: ClassVar[str] = "remote-error"

    wire: Mapping[str, Any] = attrs.field(factory=dict)

    def __attrs_post_init__(self) -> None:
        """Take over code, place and facts, so that it reads as if it had happened here."""
        told = vars(self)
        told["code"] = str(self.wire.get("code", type(self).code))
        told["recoverable"] = bool(self.wire.get("recoverable", True))
        status = self.wire.get("exit_code")
        known = _REGISTRY.get(self.code, type(self)).exit_code
        told["exit_code"] = status if isinstance(status, int) else known
        self.where: str = self.where or str(self.wire.get("where", ""))
        context = map(str, self.wire.get("context", ()))
        self.context: tuple[str, ...] = self.context or tuple(context)

    @property
    def summary(self) -> str:
        """What it said."""
        return str(self.wire.get("summary", "another process reports an error"))

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """What it advises."""
        return tuple(
            Remedy(str(told.get("text", "")), told.get("command"))
            for told in self.wire.get("remedies", ())
        )


def as_one(subject: str, errors: Sequence[LifecycleError]) -> LifecycleError:
    """What to raise for several errors: the only one as it is, else a group of them.

    Args:
        subject: What was looked at, for the words of the group.
        errors: At least one.
    """
    return errors[0] if len(errors) == 1 else Problems(subject=subject, errors=tuple(errors))


def registered_errors() -> dict[str, type[LifecycleError]]:
    """Every error class whose module is loaded, by code, in order of code."""
    return dict(sorted(_REGISTRY.items()))
