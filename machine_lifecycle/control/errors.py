"""Errors of the control socket, on both of its ends."""

from __future__ import annotations

from typing import ClassVar

import attrs

from machine_lifecycle.errors import ConfigurationError, LifecycleError, Remedy

__all__ = [
    "ControlMessageUnusable",
    "ControlSocketInUse",
    "MachineUnresponsive",
    "ProcessOurs",
    "ProcessUnknown",
    "UnknownCall",
]


@attrs.define(kw_only=True, slots=False, eq=False)
class MachineUnresponsive(LifecycleError):
    """The machine ended the conversation before it had answered."""

    code: ClassVar[str] = "machine-unresponsive"

    path: str
    call: str

    @property
    def summary(self) -> str:
        """Which call was not answered."""
        return f"the machine closed {self.path} before it had answered {self.call!r}"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """See whether it is still there."""
        return (Remedy("See whether it still runs", "machine-lifecycle status"),)


@attrs.define(kw_only=True, slots=False, eq=False)
class ControlSocketInUse(LifecycleError):
    """Another orchestrator answers on this machine's control socket."""

    code: ClassVar[str] = "control-socket-in-use"

    path: str

    @property
    def summary(self) -> str:
        """Which socket."""
        return f"another orchestrator answers on {self.path}"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """End the other one, or live beside it."""
        return (
            Remedy("Stop the one that runs", "machine-lifecycle stop"),
            Remedy(
                "Or give this machine a runtime folder of its own",
                "export MACHINE_RUNTIME_DIR=/run/machine-lifecycle-2",
            ),
        )


@attrs.define(kw_only=True, slots=False, eq=False)
class ControlMessageUnusable(LifecycleError):
    """A line on the control socket is not what the protocol asks for."""

    code: ClassVar[str] = "control-message-unusable"
    recoverable: ClassVar[bool] = False

    reason: str

    @property
    def summary(self) -> str:
        """What is wrong with it."""
        return f"unusable line on the control socket: {self.reason}"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """Both ends should be of one version."""
        return (Remedy("Use the version that the machine runs", "machine-lifecycle --version"),)


@attrs.define(kw_only=True, slots=False, eq=False)
class UnknownCall(LifecycleError):
    """The machine was asked for something that it does not offer."""

    code: ClassVar[str] = "unknown-call"
    recoverable: ClassVar[bool] = False

    call: str
    known: tuple[str, ...]

    @property
    def summary(self) -> str:
        """Which call."""
        return f"the machine does not know the call {self.call!r}"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """What it does know."""
        return (Remedy(f"It knows: {', '.join(self.known)}"),)


@attrs.define(kw_only=True, slots=False, eq=False)
class ProcessUnknown(ConfigurationError):
    """No process of the machine has this name."""

    code: ClassVar[str] = "process-unknown"

    name: str
    known: tuple[str, ...] = ()

    @property
    def summary(self) -> str:
        """Which name."""
        return f"no process is called {self.name!r}"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """The names there are."""
        names = (Remedy(f"There are: {', '.join(self.known)}"),) if self.known else ()
        return (*names, Remedy("List them", "machine-lifecycle ps"))


@attrs.define(kw_only=True, slots=False, eq=False)
class ProcessOurs(ConfigurationError):
    """A process is the machine itself: it can't be started or stopped like one of its own."""

    code: ClassVar[str] = "process-ours"

    name: str

    @property
    def summary(self) -> str:
        """Which."""
        return f"{self.name} is the machine itself"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """Stop the machine, if that is meant."""
        return (Remedy("Stop the machine, if that is meant", "machine-lifecycle stop"),)
