"""Why nobody can ever run a job, as it was written."""

from __future__ import annotations

import shlex
from typing import ClassVar

import attrs

from machine_lifecycle.errors import ConfigurationError, LifecycleError, Remedy

__all__ = ["JobUnrunnable", "PayloadUnreadable"]


@attrs.define(kw_only=True, slots=False, eq=False)
class JobUnrunnable(ConfigurationError):
    """A job asks for what can't be held against any worker. One that is submitted so is not put
    into the queue; one that another party put there is set aside.

    Attributes:
        reason: What is wrong with it.
        job_id: Which job, if it is one that the queue knows.
    """

    code: ClassVar[str] = "job-unrunnable"

    reason: str
    job_id: str = ""

    @property
    def summary(self) -> str:
        """Which, and why."""
        which = f"job {self.job_id}" if self.job_id else "such a job"
        return f"nobody can ever run {which}: {self.reason}"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """Write it differently."""
        how = Remedy(
            "See how a job and its requirements are written", "machine-lifecycle submit --help"
        )
        if not self.job_id:
            return (how,)
        show = f"machine-lifecycle jobs show {shlex.quote(self.job_id)}"
        return (Remedy("See what it asks for, and submit it anew without that", show), how)


@attrs.define(kw_only=True, slots=False, eq=False)
class PayloadUnreadable(LifecycleError):
    """What a job is to do can't be read from its record, so that nobody can do it.

    Attributes:
        job_id: Which job.
        reason: What is wrong with its payload.
    """

    code: ClassVar[str] = "payload-unreadable"
    recoverable: ClassVar[bool] = False

    job_id: str
    reason: str

    @property
    def summary(self) -> str:
        """Which, and why."""
        return f"the payload of job {self.job_id} {self.reason}"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """Submit it anew."""
        show = f"machine-lifecycle jobs show {shlex.quote(self.job_id)} --json"
        return (Remedy("See the job, and submit it anew with a JSON object as its payload", show),)
