"""How many jobs each service of a worker works on."""

from __future__ import annotations

from collections.abc import Callable, Mapping

__all__ = ["Slot", "Slots"]


class Slots:
    """Counts. What was made may still be fetched while the service works on the next job, but no
    more jobs are in that state than it does at a time: results must not pile up here.
    """

    def __init__(self, limits: Mapping[str, int], on_free: Callable[[], None]) -> None:
        """All are free.

        Args:
            limits: How many jobs each service does at a time.
            on_free: Called when a slot was given on.
        """
        self.taken: dict[str, int] = dict.fromkeys(limits, 0)
        """How many jobs each works on."""
        self._limits = limits
        self._on_free = on_free
        self._lent = dict.fromkeys(limits, 0)
        self._asking: dict[str, list[Slot]] = {service: [] for service in limits}

    def take(self, service: str) -> Slot:
        """One more job for a service."""
        self.taken[service] += 1
        return Slot(self, service)

    def lend(self, slot: Slot) -> None:
        """Give a slot on, at once or as soon as that may be."""
        if self._lent[slot.service] < self._limits[slot.service]:
            self._lent[slot.service] += 1
            self.taken[slot.service] -= 1
            slot.lent = True
            self._on_free()
        else:
            self._asking[slot.service].append(slot)

    def end(self, slot: Slot) -> None:
        """A job is over for its service."""
        asking = self._asking[slot.service]
        if slot in asking:
            asking.remove(slot)
        (self._lent if slot.lent else self.taken)[slot.service] -= 1
        if slot.lent and asking:
            self.lend(asking.pop(0))


class Slot:
    """One job's slot at its service."""

    def __init__(self, slots: Slots, service: str) -> None:
        self.service: str = service
        self.lent: bool = False
        """Whether another job may have it by now."""
        self._slots = slots
        self._asked = False

    def lend(self) -> None:
        """The service is done with the job; what it made is not here yet."""
        if not self._asked:
            self._asked = True
            self._slots.lend(self)

    def end(self) -> None:
        """The job is over for the service."""
        self._slots.end(self)
