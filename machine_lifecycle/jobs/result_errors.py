"""Why a result can't be written, or is none."""

from __future__ import annotations

import shlex
from typing import ClassVar

import attrs

from machine_lifecycle.errors import ConfigurationError, LifecycleError, Remedy

__all__ = ["JobDidNotComplete", "OutputNotSaved", "ResultRefused"]


@attrs.define(kw_only=True, slots=False, eq=False)
class OutputNotSaved(ConfigurationError):
    """What a job made can't be written to the folder that was named for it.

    Attributes:
        job_id: Which job.
        folder: Where to.
        reason: Why not.
    """

    code: ClassVar[str] = "output-not-saved"

    job_id: str
    folder: str
    reason: str

    @property
    def summary(self) -> str:
        """Of which job, where to, and why not."""
        return f"what job {self.job_id} made can't be saved in {self.folder}: {self.reason}"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """Name another folder."""
        job_id = shlex.quote(self.job_id)
        return (
            Remedy(
                "Name another folder; what a completed job made is kept for a day",
                f"machine-lifecycle jobs watch {job_id} --out pictures",
            ),
        )


@attrs.define(kw_only=True, slots=False, eq=False)
class JobDidNotComplete(LifecycleError):
    """The result of a job is waited for, and it failed or was cancelled.

    Attributes:
        job_id: Which job.
        status: ``failed``, ``cancelled``, or another party's ``timeout``.
        reason: Why, as its record tells.
    """

    code: ClassVar[str] = "job-did-not-complete"
    recoverable: ClassVar[bool] = False

    job_id: str
    status: str
    reason: str

    @property
    def summary(self) -> str:
        """How it ended."""
        return f"job {self.job_id} {self.status}: {self.reason}"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """Look at its story; run it once more."""
        job_id = shlex.quote(self.job_id)
        return (
            Remedy("See how its runs went", f"machine-lifecycle jobs show {job_id}"),
            Remedy("Run it once more", f"machine-lifecycle jobs retry {job_id}"),
        )


@attrs.define(kw_only=True, slots=False, eq=False)
class ResultRefused(LifecycleError):
    """Redis refuses for good to write how a job's run ended, and takes that of others.

    The job ends as failed with this as its cause, and its result is kept for an hour in the key
    ``job:ID:late:FENCE``. Where not even that can be written, it runs again when its lease ends.

    Attributes:
        job_id: Which job.
        reason: What Redis said.
        kept: The folder that holds the result; empty if it is not on disk.
        cli: The call of ``redis-cli`` that reaches the server, which asks for the password.
    """

    code: ClassVar[str] = "result-refused"
    recoverable: ClassVar[bool] = True

    job_id: str
    reason: str
    kept: str = ""
    cli: str = "redis-cli"

    @property
    def summary(self) -> str:
        """Which, why, and where the result is."""
        where = f"; its result is kept in {self.kept}" if self.kept else ""
        return f"the end of job {self.job_id} can't be written: {self.reason}{where}"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """Look at its keys, make room for them, run it again."""
        job_id, cli = shlex.quote(self.job_id), self.cli
        return (
            Remedy(
                "See what stands where its progress belongs",
                f"{cli} type job:{job_id}:progress; {cli} type progress:{job_id}",
            ),
            Remedy("See what this user may not write", f"{cli} acl log"),
            Remedy("Then run it again", f"machine-lifecycle jobs retry {job_id}"),
        )
