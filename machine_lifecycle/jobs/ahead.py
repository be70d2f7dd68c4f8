"""Jobs that were fetched ahead: each begins when the one before it ends, or goes back."""

from __future__ import annotations

from collections.abc import Callable

from machine_lifecycle.jobs.delay import Delay
from machine_lifecycle.jobs.running import RunningJob
from machine_lifecycle.jobs.slots import QUICK, Slot, Slots

__all__ = ["Ahead"]

_LATE = "the job before it takes longer than those before"


class Ahead:
    """Keeps them for a moment. A job that would have to wait for longer goes back, before it has
    begun, to the place that it had: another worker may be free for it.
    """

    def __init__(self, slots: Slots) -> None:
        self._slots = slots
        self._late = Delay(QUICK)

    def keep(self, running: RunningJob, slot: Slot, begin: Callable[[], None]) -> None:
        """Begin a job when it is its slot's turn."""

        def late() -> None:
            if slot.ahead:  # else it has ended in another way
                self._slots.took(slot.service, QUICK)
                running.cut("released", _LATE)

        def turn() -> None:
            self._late.call_off(late)
            begin()

        slot.on_turn = turn
        self._late.call(late)
