"""What can go wrong with jobs."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import ClassVar

import attrs

from machine_lifecycle.errors import ConfigurationError, LifecycleError, Remedy, our_python

__all__ = [
    "JobCrashed",
    "JobIdTaken",
    "JobNotFound",
    "JobStateRefuses",
    "JobTimeout",
    "PayloadUnusable",
    "ServiceDown",
    "ServiceFailing",
    "WarmUpFailed",
]


@attrs.define(kw_only=True, slots=False, eq=False)
class JobNotFound(ConfigurationError):
    """There is no such job.

    Attributes:
        job_id: As asked for.
    """

    code: ClassVar[str] = "job-not-found"

    job_id: str

    @property
    def summary(self) -> str:
        """Which one."""
        return f"there is no job {self.job_id}"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """Ended jobs are forgotten."""
        return (
            Remedy(
                "See which are known; completed ones are kept 24 hours",
                "machine-lifecycle jobs list",
            ),
        )


@attrs.define(kw_only=True, slots=False, eq=False)
class JobIdTaken(ConfigurationError):
    """A job is submitted under the id, or the key, of one that asks for something else.

    Attributes:
        job_id: The id that both would have.
    """

    code: ClassVar[str] = "job-id-taken"

    job_id: str

    @property
    def summary(self) -> str:
        """Which id."""
        return f"there is a job {self.job_id} by now, which asks for something else"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """Look at that one; give this one a name of its own."""
        return (
            Remedy(
                "See what it asks for, and submit yours under another id or key",
                f"machine-lifecycle jobs show {shlex.quote(self.job_id)}",
            ),
        )


@attrs.define(kw_only=True, slots=False, eq=False)
class JobStateRefuses(ConfigurationError):
    """What was asked can't be done to a job in its present state.

    Attributes:
        job_id: Which job.
        status: Its state.
        asked: What was asked.
    """

    code: ClassVar[str] = "job-state-refuses"

    job_id: str
    status: str
    asked: str

    @property
    def summary(self) -> str:
        """What, and why not."""
        return f"job {self.job_id} is {self.status}: it can't be {self.asked}"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """Look at it."""
        command = f"machine-lifecycle jobs show {shlex.quote(self.job_id)}"
        return (Remedy("See how it stands", command),)


@attrs.define(kw_only=True, slots=False, eq=False)
class JobTimeout(LifecycleError):
    """A job took longer than it may.

    Attributes:
        job_id: Which job.
        seconds: How long it may take.
    """

    code: ClassVar[str] = "job-timeout"

    job_id: str
    seconds: float

    @property
    def summary(self) -> str:
        """Which, and how long."""
        return f"job {self.job_id} was stopped after {self.seconds:g} s, the time it may take"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """More time, for this job or for all."""
        minutes = max(1, round(self.seconds / 30))
        return (
            Remedy("Give the job more time with timeout_minutes in its requirements"),
            Remedy("Or give all jobs more", f"export WORKER_JOB_TIMEOUT_MINUTES={minutes}"),
        )


@attrs.define(kw_only=True, slots=False, eq=False)
class ServiceDown(LifecycleError):
    """The service that a worker drives does not answer.

    Attributes:
        service: Its name.
        detail: What the look at it found.
    """

    code: ClassVar[str] = "service-down"

    service: str
    detail: str = ""

    @property
    def summary(self) -> str:
        """Which, and what was seen."""
        return f"{self.service} can't take jobs: {self.detail or 'it does not answer'}"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """Look at it."""
        return (Remedy("See what it does", "machine-lifecycle status"),)


@attrs.define(kw_only=True, slots=False, eq=False)
class WarmUpFailed(LifecycleError):
    """The graph that a service runs before it takes jobs did not end well; it is tried again.

    Attributes:
        service: Its name.
        file: The graph.
        reason: What the service said of it.
        cause: Code of the error behind it; empty if there is none.
    """

    code: ClassVar[str] = "warm-up-failed"

    service: str
    file: Path
    reason: str
    cause: str = ""

    @property
    def summary(self) -> str:
        """Of which service, and why."""
        return f"{self.service} takes no jobs, since its warm-up {self.file} failed: {self.reason}"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """Try the graph, or give it more time, or go without."""
        file = shlex.quote(str(self.file))
        longer = Remedy("Give it more time, in seconds", "export COMFYUI_WARMUP_TIMEOUT=900")
        return (
            *((longer,) if self.cause == "prompt-timeout" else ()),
            Remedy("See that the graph runs, as a job", f"machine-lifecycle submit {file} --watch"),
            Remedy("Or go without it", "unset COMFYUI_WARMUP"),
        )


@attrs.define(kw_only=True, slots=False, eq=False)
class ServiceFailing(LifecycleError):
    """A service answers, and fails one job after the other: its worker rests.

    Attributes:
        service: Its name.
        failures: How many in a row.
        seconds: For how long the worker rests; then it tries one job.
        last: What the last of them said.
    """

    code: ClassVar[str] = "service-failing"

    service: str
    failures: int
    seconds: float
    last: str

    @property
    def summary(self) -> str:
        """Which, how often, and what was done about it."""
        return (
            f"{self.service} failed {self.failures} jobs in a row; its worker takes none for "
            f"{self.seconds:g} s: {self.last}"
        )

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """Look at what it says, or start it anew."""
        return (
            Remedy("See what it says", "machine-lifecycle logs"),
            Remedy("See its process, to restart it by that name", "machine-lifecycle ps"),
        )


@attrs.define(kw_only=True, slots=False, eq=False)
class JobCrashed(LifecycleError):
    """The connector broke in a way it does not foresee.

    Attributes:
        job_id: Which job.
        kind: Type of the exception.
        message: What it said.
    """

    code: ClassVar[str] = "job-crashed"

    job_id: str
    kind: str
    message: str

    @property
    def summary(self) -> str:
        """What it said."""
        return f"job {self.job_id}: {self.kind}: {self.message}"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """Look at the worker's log."""
        return (Remedy("Read the worker's log", "machine-lifecycle logs"),)


@attrs.define(kw_only=True, slots=False, eq=False)
class PayloadUnusable(ConfigurationError):
    """A file holds nothing that can be submitted as a job.

    Attributes:
        path: The file.
        reason: What is wrong with it.
        look: A command that shows it, where one does.
    """

    code: ClassVar[str] = "payload-unusable"

    path: str
    reason: str
    look: str = ""

    @property
    def summary(self) -> str:
        """Which, and why."""
        return f"{self.path} {self.reason}"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """What it must hold."""
        return (
            Remedy(
                "Give a JSON object: a graph in ComfyUI's API form (Workflow, Export (API)), or a "
                "whole payload",
                self.look or None,
            ),
        )


@attrs.define(kw_only=True, slots=False, eq=False)
class OutputStoreUnusable(ConfigurationError):
    """What jobs make can't be kept where WORKER_OUTPUT_STORE says.

    Attributes:
        store: The place.
        reason: Why not.
        package: What is not installed, or empty.
    """

    code: ClassVar[str] = "output-store-unusable"

    store: str
    reason: str
    package: str = ""

    @property
    def summary(self) -> str:
        """Where, and why not."""
        return f"outputs can't be kept at {self.store}: {self.reason}"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """Install what is missing, or name another place."""
        folder = Remedy("Name a folder or a bucket", "export WORKER_OUTPUT_STORE=/mnt/outputs")
        if not self.package:
            return (folder,)
        install = our_python("-m", "pip", "install", self.package)
        return (Remedy("Install what speaks to that place", install), folder)


@attrs.define(kw_only=True, slots=False, eq=False)
class OutputNotStored(LifecycleError):
    """A file that a job made could not be put into the site's store; the job is run again.

    Attributes:
        url: Where to.
        reason: Why not.
    """

    code: ClassVar[str] = "output-not-stored"

    url: str
    reason: str

    @property
    def summary(self) -> str:
        """Where to, and why not."""
        return f"{self.url} can't be written: {self.reason}"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """Look at the store."""
        return (Remedy("See whether the store is up, has room, and lets the workers write"),)


@attrs.define(kw_only=True, slots=False, eq=False)
class OutputUnreadable(LifecycleError):
    """A file that a job made is in the site's store, and can't be read from here.

    Attributes:
        url: Where it is.
        reason: Why not.
    """

    code: ClassVar[str] = "output-unreadable"

    url: str
    reason: str

    @property
    def summary(self) -> str:
        """Where it is, and why not."""
        return f"{self.url} can't be read: {self.reason}"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """Look at the store."""
        return (Remedy("See whether the store is up, still has it, and lets you read it"),)
