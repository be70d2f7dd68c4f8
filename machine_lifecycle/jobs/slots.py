"""How many jobs each service of a worker works on."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping

__all__ = ["QUICK", "Slot", "Slots"]

QUICK = 0.05
"""Seconds that a job takes of which the next one is fetched before it ends."""
_IN_A_ROW = 3
"""So many of them must have been that quick: the next one will be, too."""
_FORESEEN = 0.01
"""Seconds within which all of several that are fetched ahead begin, if they take as long."""
_MOST = 8
"""Jobs that are fetched ahead; more do not make them quicker."""


class Slots:
    """Counts. What was made may still be fetched while the service works on the next job, but no
    more jobs are in that state than it does at a time: results must not pile up here.

    A service whose jobs are over in a moment would wait for the next one most of the time. It is
    fetched *ahead* then, and begins when a slot is free.
    """

    def __init__(self, limits: Mapping[str, int], on_free: Callable[[], None]) -> None:
        """All are free.

        Args:
            limits: How many jobs each service does at a time.
            on_free: Called when a slot was given on.
        """
        self.taken: dict[str, int] = dict.fromkeys(limits, 0)
        """How many jobs each works on, with those that were fetched ahead."""
        self._limits = limits
        self._on_free = on_free
        self._lent = dict.fromkeys(limits, 0)
        self._asking: dict[str, list[Slot]] = {service: [] for service in limits}
        self._ahead: dict[str, list[Slot]] = {service: [] for service in limits}
        self._took = {service: deque([QUICK] * _IN_A_ROW, _IN_A_ROW) for service in limits}
        """Seconds of the last jobs; as if none had been quick before the first one."""

    def take(self, service: str) -> Slot:
        """One more job for a service."""
        self.taken[service] += 1
        slot = Slot(self, service, ahead=self.taken[service] > self._limits[service])
        if slot.ahead:
            self._ahead[service].append(slot)
        return slot

    def ahead(self) -> int:
        """How many more jobs may be fetched ahead, where there is one service that does one at a
        time: as many as begin in a moment. Who does several fetches some while it does others.
        """
        if list(self._limits.values()) != [1]:
            return 0
        longest = max(map(max, self._took.values()))
        if longest >= QUICK:
            return 0
        most = int(_FORESEEN / longest) if longest * _MOST > _FORESEEN else _MOST
        return max(0, max(1, most) - self.unbegun)

    @property
    def unbegun(self) -> int:
        """How many jobs wait that were fetched ahead."""
        return sum(map(len, self._ahead.values()))

    def took(self, service: str, seconds: float) -> None:
        """A job took so long, up to now."""
        self._took[service].append(seconds)

    def lend(self, slot: Slot) -> None:
        """Give a slot on, at once or as soon as that may be."""
        if self._lent[slot.service] < self._limits[slot.service]:
            self._lent[slot.service] += 1
            self.taken[slot.service] -= 1
            slot.lent = True
            self._go_on(slot)
            if not slot.followed:
                self._on_free()
        else:
            self._asking[slot.service].append(slot)

    def end(self, slot: Slot) -> None:
        """A job is over for its service."""
        asking = self._asking[slot.service]
        if slot in asking:
            asking.remove(slot)
        if slot.ahead:
            self._ahead[slot.service].remove(slot)
            slot.ahead = False
        (self._lent if slot.lent else self.taken)[slot.service] -= 1
        self._go_on(slot)
        if slot.lent and asking:
            self.lend(asking.pop(0))

    def _go_on(self, before: Slot) -> None:
        """A slot is free: what was fetched ahead may begin."""
        service, ahead = before.service, self._ahead[before.service]
        while ahead and self.taken[service] - len(ahead) < self._limits[service]:
            slot = ahead.pop(0)
            slot.ahead, before.followed = False, True
            slot.on_turn()


def _nothing() -> None:
    return None


class Slot:
    """One job's slot at its service."""

    def __init__(self, slots: Slots, service: str, *, ahead: bool = False) -> None:
        self.service: str = service
        self.ahead: bool = ahead
        """Whether the job has to wait for another one's end."""
        self.followed: bool = False
        """Whether a job that was fetched ahead began when this one let its service go."""
        self.on_turn: Callable[[], None] = _nothing
        """Called when it has to wait no longer."""
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
