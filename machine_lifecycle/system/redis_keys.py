"""Every key and channel in Redis, in one place; the Lua functions use the same names."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

__all__ = [
    "ACTIVE_WORKERS",
    "CANCEL",
    "CLAIMED",
    "COMPLETED",
    "COMPLETE_CHANNEL",
    "DEAD",
    "DEAD_REASONS",
    "DELAYED",
    "ENDED",
    "FAILED",
    "FAILED_CHANNEL",
    "LEASES",
    "PENDING",
    "PROGRESS_CHANNEL",
    "SHUTDOWN_EVENTS",
    "SUBMITTED",
    "WORKER_EVENTS",
    "WORKER_STATUS",
    "active",
    "attestation",
    "heartbeat",
    "iso",
    "job",
    "job_progress",
    "machine_drained",
    "machine_events",
    "machine_info",
    "machine_owner",
    "machine_status",
    "machine_worker",
    "output",
    "outputs",
    "preview",
    "progress_stream",
    "wake",
    "worker",
]

PENDING: Final = "jobs:pending"
DELAYED: Final = "jobs:delayed"
LEASES: Final = "jobs:leases"
COMPLETED: Final = "jobs:completed"
FAILED: Final = "jobs:failed"
DEAD: Final = "jobs:dead"
DEAD_REASONS: Final = "jobs:dead:reasons"
ACTIVE_WORKERS: Final = "workers:active"

SUBMITTED: Final = "job_submitted"
CLAIMED: Final = "job_claimed"
PROGRESS_CHANNEL: Final = "update_job_progress"
COMPLETE_CHANNEL: Final = "complete_job"
FAILED_CHANNEL: Final = "job_failed"
CANCEL: Final = "cancel_job"
ENDED: Final = "jobs:ended"
"""Ours: a job was cancelled, or failed and will be tried again."""
WORKER_STATUS: Final = "worker_status"
WORKER_EVENTS: Final = "worker:events"
SHUTDOWN_EVENTS: Final = "machine:startup:events"


def job(job_id: str) -> str:
    """Hash: everything known of one job."""
    return f"job:{job_id}"


def job_progress(job_id: str) -> str:
    """Hash: how far it is."""
    return f"job:{job_id}:progress"


def progress_stream(job_id: str) -> str:
    """Stream: the steps of its life."""
    return f"progress:{job_id}"


def output(job_id: str, number: int | str) -> str:
    """String: the bytes of one small output file, counted from 0."""
    return f"job:{job_id}:output:{number}"


def wake(worker_id: str) -> str:
    """Channel, ours: there may be a job for this worker."""
    return f"jobs:wake:{worker_id}"


def preview(job_id: str) -> str:
    """Channel, ours: pictures of what the job is about to make, for who listens."""
    return f"jobs:preview:{job_id}"


def outputs(job_id: str) -> str:
    """Channel, ours: small files of a job that completes, for who waits for it. A message is the
    number of one, a line feed, and its bytes.
    """
    return f"jobs:outputs:{job_id}"


def active(worker_id: str) -> str:
    """Hash: what one worker runs."""
    return f"jobs:active:{worker_id}"


def worker(worker_id: str) -> str:
    """Hash: one worker."""
    return f"worker:{worker_id}"


def heartbeat(worker_id: str) -> str:
    """String with a TTL of 60 s: the worker lives."""
    return f"worker:{worker_id}:heartbeat"


def machine_owner(machine_id: str) -> str:
    """String with a TTL of 30 s: who goes by this machine id."""
    return f"machine:{machine_id}:owner"


def machine_events(machine_id: str) -> str:
    """Stream, bounded, and channel: the events of one machine."""
    return f"machine:{machine_id}:events"


def machine_drained(machine_id: str) -> str:
    """String with a TTL of 7 days, renewed while its workers ask: the machine takes no jobs."""
    return f"machine:{machine_id}:drained"


def machine_info(machine_id: str) -> str:
    """Hash with a TTL of 120 s: one machine."""
    return f"machine:{machine_id}:info"


def machine_status(machine_id: str) -> str:
    """Channel: how the machine is."""
    return f"machine:status:{machine_id}"


def machine_worker(machine_id: str, worker_id: str) -> str:
    """Channel: what one worker of the machine does."""
    return f"machine:{machine_id}:worker:{worker_id}"


def attestation(job_id: str, workflow_id: str) -> str:
    """The part of an attestation's key that names the job."""
    step = f"step-id:{job_id.removeprefix('step-')}"
    return f"job-id:{workflow_id}:{step}" if workflow_id else step


def iso(ms: int) -> str:
    """Milliseconds since 1970 as ``YYYY-MM-DDTHH:MM:SS.mmmZ``."""
    return f"{_to_the_second(ms // 1000)}.{ms % 1000:03d}Z"


@lru_cache(maxsize=16)
def _to_the_second(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}"
