"""What the lifecycle wants done. A handful of orders; the runner carries them out."""

from __future__ import annotations

import attrs

from machine_lifecycle.lifecycle.events import Event
from machine_lifecycle.states.names import MachineState
from machine_lifecycle.states.stimuli import Stimulus

__all__ = ["CancelActivity", "Directive", "Emit", "Finish", "ForceStop", "StartActivity", "WakeAt"]


@attrs.frozen
class StartActivity:
    """Start what happens in a state, once the activity before it has ended."""

    state: MachineState
    attempt: int


@attrs.frozen
class CancelActivity:
    """Cancel the activity that runs, if one does."""


@attrs.frozen
class WakeAt:
    """Post a stimulus when the clock has reached a time (monotonic seconds)."""

    at: float
    stimulus: Stimulus


@attrs.frozen
class Emit:
    """Tell the world."""

    event: Event


@attrs.frozen
class ForceStop:
    """End everything at once, without asking."""


@attrs.frozen
class Finish:
    """The life is over.

    Attributes:
        exit_code: Of the command line.
    """

    exit_code: int


Directive = StartActivity | CancelActivity | WakeAt | Emit | ForceStop | Finish
