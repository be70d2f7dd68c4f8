"""What a gate says when a boot may not go on."""

from __future__ import annotations

from typing import ClassVar

import attrs

from machine_lifecycle.errors import ExitCode, LifecycleError, Remedy

__all__ = ["GateRefused", "GateTooLate"]


@attrs.define(kw_only=True, slots=False, eq=False)
class GateRefused(LifecycleError):
    """A gate does not let the machine go on. Raised by gates.

    Attributes:
        reason: Why not, in words.
        advice: What to do about it.
        gate: Its name; filled in by whoever asked it.
        point: What it holds back; likewise.
    """

    code: ClassVar[str] = "gate-refused"
    recoverable: ClassVar[bool] = False
    exit_code: ClassVar[int] = ExitCode.GATE_REFUSED

    reason: str
    advice: tuple[Remedy, ...] = ()
    gate: str = ""
    point: str = ""

    @property
    def summary(self) -> str:
        """Who, before what, and why."""
        return f"{self.gate or 'a gate'} refuses, before {self.point or 'going on'}: {self.reason}"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """Those of the gate."""
        return self.advice


@attrs.define(kw_only=True, slots=False, eq=False)
class GateTooLate(LifecycleError):
    """A gate did not say within its deadline whether the machine may go on.

    Attributes:
        seconds: Its deadline.
    """

    code: ClassVar[str] = "gate-too-late"
    exit_code: ClassVar[int] = ExitCode.GATE_REFUSED

    gate: str
    point: str
    seconds: float

    @property
    def summary(self) -> str:
        """Which gate, before what, and after how long."""
        return f"{self.gate} said nothing within {self.seconds:g} s, before {self.point}"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """Look at it; give it longer; go without."""
        return (
            Remedy(f"See what {self.gate} waits for, or have it refuse with a reason"),
            Remedy("Give it longer where it is added: machine.gate(…, deadline=300)"),
            Remedy("Or boot without gates", "export MACHINE_GATES="),
        )
