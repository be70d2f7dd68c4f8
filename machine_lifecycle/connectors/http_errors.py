"""What a service that does jobs over HTTP may answer instead of a result."""

from __future__ import annotations

import shlex
from typing import ClassVar

import attrs

from machine_lifecycle.errors import LifecycleError, Remedy

__all__ = ["ServiceFailedJob", "ServiceRefusedJob"]


@attrs.define(kw_only=True, slots=False, eq=False)
class ServiceFailedJob(LifecycleError):
    """The service could not do the job: it answered with a status of 500 or above.

    Attributes:
        url: What was asked, without secrets.
        status: What it answered, and
        said: the beginning of its words.
    """

    code: ClassVar[str] = "service-failed-job"

    url: str
    status: int
    said: str

    @property
    def summary(self) -> str:
        """What it answered."""
        return f"{self.url} answered {self.status}: {self.said or 'no word'}"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """Read what the service logged."""
        return (Remedy("Read what the service logged", "machine-lifecycle logs"),)


@attrs.define(kw_only=True, slots=False, eq=False)
class ServiceRefusedJob(ServiceFailedJob):
    """The service does not take such a job: it answered with a status of 400 to 499.

    Another run would end the same, so there is none.
    """

    code: ClassVar[str] = "service-refused-job"
    recoverable: ClassVar[bool] = False

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """Try a payload by hand."""
        ask = f"curl -sS --json @payload.json {shlex.quote(self.url)}"
        return (Remedy("Mend the job's payload; try it by hand", ask),)
