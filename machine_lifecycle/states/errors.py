"""Errors of the state machine itself and of waiting in a state."""

from __future__ import annotations

from typing import ClassVar

import attrs

from machine_lifecycle.errors import LifecycleError, Remedy

__all__ = ["ChecksFailed", "InternalFault", "StateStalled", "StateTooLong", "TriggerNotAllowed"]


def _looks(waiting: tuple[str, ...]) -> tuple[Remedy, ...]:
    """Look at what was waited for: processes, each by its log."""
    if not waiting:
        return ()
    words = f"It waited for {'; '.join(waiting)}. See what they say"
    return (Remedy(words, "machine-lifecycle logs"),)


@attrs.define(kw_only=True, slots=False, eq=False)
class TriggerNotAllowed(LifecycleError):
    """A fact was reported that the machine's state has no answer for."""

    code: ClassVar[str] = "trigger-not-allowed"
    recoverable: ClassVar[bool] = False

    trigger: str
    state: str
    allowed: tuple[str, ...] = ()

    @property
    def summary(self) -> str:
        """Which fact, in which state."""
        return f"{self.trigger} means nothing in state {self.state}"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """What the state does answer."""
        return (Remedy(f"This state answers: {', '.join(self.allowed) or 'nothing'}"),)


@attrs.define(kw_only=True, slots=False, eq=False)
class StateStalled(LifecycleError):
    """Nothing moved in a state for longer than its stall limit."""

    code: ClassVar[str] = "state-stalled"

    state: str
    seconds: float
    waiting: tuple[str, ...] = ()

    @property
    def summary(self) -> str:
        """Which state, and for how long."""
        return f"no progress in {self.state} for {self.seconds:.0f} s"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """What it waited for, and how to wait longer."""
        return (
            *_looks(self.waiting),
            Remedy(
                "If it only needs more time, raise the limit",
                f"export MACHINE_STALL_LIMITS={self.state}={self.seconds * 2:.0f}",
            ),
        )


@attrs.define(kw_only=True, slots=False, eq=False)
class StateTooLong(LifecycleError):
    """A state took longer than its cap, though something still moved."""

    code: ClassVar[str] = "state-too-long"

    state: str
    seconds: float
    waiting: tuple[str, ...] = ()

    @property
    def summary(self) -> str:
        """Which state, and after how long."""
        return f"{self.state} was not done after {self.seconds:.0f} s"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """How to allow more."""
        return (
            *_looks(self.waiting),
            Remedy(
                "If it only needs more time, raise the cap",
                f"export MACHINE_STATE_CAPS={self.state}={self.seconds * 2:.0f}",
            ),
        )


@attrs.define(kw_only=True, slots=False, eq=False)
class ChecksFailed(LifecycleError):
    """The machine runs, but a verification before Ready did not pass.

    Attributes:
        failed: Which, and what was found.
        advice: What these say is to be done.
    """

    code: ClassVar[str] = "health-check-failed"

    failed: tuple[str, ...]
    advice: tuple[Remedy, ...] = ()

    @property
    def summary(self) -> str:
        """Which checks."""
        return f"health check failed: {'; '.join(self.failed)}"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """What the checks say; else where to look."""
        return self.advice or (
            Remedy("See what each process says", "machine-lifecycle logs"),
            Remedy("See every check with its time", "machine-lifecycle status"),
        )


@attrs.define(kw_only=True, slots=False, eq=False)
class InternalFault(LifecycleError):
    """Something raised an error that nobody foresaw: a mistake in this program or a plug-in."""

    code: ClassVar[str] = "internal-fault"

    during: str
    kind: str
    message: str

    @property
    def summary(self) -> str:
        """What was raised, and during what."""
        return f"{self.kind} during {self.during}: {self.message}"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """What a report needs."""
        return (Remedy("Report it with the lines above and", "machine-lifecycle status --json"),)
