"""Keeps a worker from feeding job after job to a service that fails them all."""

from __future__ import annotations

from machine_lifecycle.errors import LifecycleError
from machine_lifecycle.jobs.errors import ServiceFailing

__all__ = ["Breaker"]

_FAILURES = 5
"""In a row, after which it opens. Fewer would rest over one submitter's bad luck."""
_REST = 10.0
"""Seconds of the first rest; doubles while the first job after a rest fails too."""
_LONGEST_REST = 300.0


class Breaker:
    """Counts failures in a row. Jobs that are wrong themselves say nothing of the service."""

    def __init__(self, service: str) -> None:
        self._service = service
        self._failures = 0
        self._rest = _REST

    def succeeded(self) -> None:
        """A job ended well: all is forgotten."""
        self._failures, self._rest = 0, _REST

    def failed(self, error: LifecycleError) -> ServiceFailing | None:
        """A job failed; says so when the worker should rest."""
        if not error.recoverable:
            return None
        self._failures += 1
        if self._failures < _FAILURES:
            return None
        seconds, self._rest = self._rest, min(self._rest * 2, _LONGEST_REST)
        return ServiceFailing(
            service=self._service, failures=self._failures, seconds=seconds, last=error.summary
        )
