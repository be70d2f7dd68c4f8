"""What is more than the server takes at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import attrs

from machine_lifecycle.errors import ConfigurationError, LifecycleError, Remedy
from machine_lifecycle.jobs.outcomes import TOO_LARGE
from machine_lifecycle.model.text import human_bytes

__all__ = ["JobTooLarge", "ResultTooLarge", "too_large"]


def _take_more(cli: str) -> Remedy:
    return Remedy(
        "Or have the server take more, if its limits were lowered (512 MiB and 1 GiB)",
        f"{cli} config set proto-max-bulk-len 512mb client-query-buffer-limit 1gb",
    )


@attrs.define(kw_only=True, slots=False, eq=False)
class JobTooLarge(ConfigurationError):
    """A job that is submitted is more than the server takes at once; nothing is kept of it.

    Attributes:
        size: Bytes that are sent for it.
        limits: What the server takes, in bytes, by the names of its settings; empty where it does
            not tell this user.
        said: How the connection ended at which it was sent.
        cli: The call of ``redis-cli`` that reaches the server, which asks for the password.
    """

    code: ClassVar[str] = "job-too-large"

    size: int
    limits: Mapping[str, int]
    said: str
    cli: str = "redis-cli"

    @property
    def summary(self) -> str:
        """How large it is, and may be."""
        limits = ", ".join(f"{name} {human_bytes(most)}" for name, most in self.limits.items())
        return (
            f"the job, {human_bytes(self.size)} as it is sent, is more than Redis takes at once"
            f"{f' ({limits})' if limits else ''}: {self.said}"
        )

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """Files travel otherwise; a server may be told to take more."""
        return (
            Remedy(
                "Put large files where the service can read them, and have the payload name them "
                "by URL or path"
            ),
            _take_more(self.cli),
        )


@attrs.define(kw_only=True, slots=False, eq=False)
class ResultTooLarge(LifecycleError):
    """A result is more than the queue carries, or than its server takes at once.

    Attributes:
        job_id: Which job.
        size: Bytes of its result as JSON; where it was sent, of all that was sent for it.
        most: Bytes that a result may have; 0 for the limit of the server, which is not told.
        said: How the connection ended at which it was sent; empty if it was not.
        cli: The call of ``redis-cli`` that reaches the server, which asks for the password.
    """

    code: ClassVar[str] = "result-too-large"
    recoverable: ClassVar[bool] = False

    job_id: str
    size: int
    most: int = 0
    said: str = ""
    cli: str = "redis-cli"

    @property
    def summary(self) -> str:
        """How large it is, and may be."""
        if self.said:
            return (
                f"the result of job {self.job_id}, {human_bytes(self.size)}, is more than Redis "
                f"takes at once: {self.said}"
            )
        return (
            f"the result of job {self.job_id} is {human_bytes(self.size)} of JSON, more than "
            f"{human_bytes(self.most)}"
        )

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """Files travel otherwise; a server may be told to take more."""
        return (
            Remedy(
                "Have the service return it as a file, and keep files in a store of your own",
                "export WORKER_OUTPUT_STORE=/mnt/outputs",
            ),
            *((_take_more(self.cli),) if self.said else ()),
        )


def too_large(job_id: str, answer: str) -> ResultTooLarge | None:
    """What the answer to a result says, if the server does not take it for its size."""
    word, _, facts = answer.partition(" ")
    if word != TOO_LARGE:
        return None
    size, _, said = facts.partition(" ")
    return ResultTooLarge(job_id=job_id, size=int(size), said=said)
