"""How many jobs each service of a worker works on."""

from __future__ import annotations

from collections.abc import Callable, Mapping

__all__ = ["Place", "Places"]


class Places:
    """Counts. What was made may still be fetched while the service works on the next job, but no
    more jobs are in that state than it does at a time: results must not pile up here.
    """

    def __init__(self, limits: Mapping[str, int], on_free: Callable[[], None]) -> None:
        """All are free.

        Args:
            limits: How many jobs each service does at a time.
            on_free: Called when a place was given on.
        """
        self.taken: dict[str, int] = dict.fromkeys(limits, 0)
        """How many jobs each works on."""
        self._limits = limits
        self._on_free = on_free
        self._lent = dict.fromkeys(limits, 0)
        self._asking: dict[str, list[Place]] = {service: [] for service in limits}

    def take(self, service: str) -> Place:
        """One more job for a service."""
        self.taken[service] += 1
        return Place(self, service)

    def lend(self, place: Place) -> None:
        """Give a place on, at once or as soon as that may be."""
        if self._lent[place.service] < self._limits[place.service]:
            self._lent[place.service] += 1
            self.taken[place.service] -= 1
            place.lent = True
            self._on_free()
        else:
            self._asking[place.service].append(place)

    def end(self, place: Place) -> None:
        """A job is over for its service."""
        asking = self._asking[place.service]
        if place in asking:
            asking.remove(place)
        (self._lent if place.lent else self.taken)[place.service] -= 1
        if place.lent and asking:
            self.lend(asking.pop(0))


class Place:
    """One job's place at its service."""

    def __init__(self, places: Places, service: str) -> None:
        self.service: str = service
        self.lent: bool = False
        """Whether another job may have it by now."""
        self._places = places
        self._asked = False

    def lend(self) -> None:
        """The service is done with the job; what it made is not here yet."""
        if not self._asked:
            self._asked = True
            self._places.lend(self)

    def end(self) -> None:
        """The job is over for the service."""
        self._places.end(self)
