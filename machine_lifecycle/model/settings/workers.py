"""What concerns the workers and the jobs that they take."""

from __future__ import annotations

import attrs

from machine_lifecycle.model.choices import CustomerIsolation
from machine_lifecycle.model.settings.fields import setting
from machine_lifecycle.model.settings.installation import OfInstallation

__all__ = ["OfWorkers"]


@attrs.frozen(kw_only=True)
class OfWorkers(OfInstallation):
    """What concerns the workers and the jobs that they take."""

    # Workers
    job_timeout_minutes: float = setting(
        ("WORKER_JOB_TIMEOUT_MINUTES", "JOB_TIMEOUT_MINUTES"),
        30.0,
        "Minutes a job may take that names no time of its own; for jobs of one kind alone: "
        "`{WHAT IS ASKED FOR}_JOB_TIMEOUT_MINUTES`, such as `COMFYUI_JOB_TIMEOUT_MINUTES`.",
    )
    heartbeat_ms: int = setting(
        "WORKER_HEARTBEAT_INTERVAL_MS", 30_000, "Milliseconds between a worker's heartbeats."
    )
    poll_ms: int = setting(
        "WORKER_POLL_INTERVAL_MS",
        2_000,
        "Milliseconds between a fleet's looks at what messages missed; idle workers take turns.",
    )
    concurrent_jobs: int = setting(
        "WORKER_MAX_CONCURRENT_JOBS", 0, "Jobs a worker does at a time; 0: what its service takes."
    )
    retry_backoff_ms: int = setting(
        "WORKER_RETRY_BACKOFF_MS",
        1_000,
        "Milliseconds until a job that failed, and may do better, is tried again; doubled each "
        "time.",
    )
    allowed_customers: str = setting(
        ("WORKER_ALLOWED_CUSTOMERS", "ALLOWED_CUSTOMERS"),
        "",
        "Customers whose jobs are taken, separated by commas, and nobody else's; empty: all.",
    )
    denied_customers: str = setting(
        ("WORKER_DENIED_CUSTOMERS", "DENIED_CUSTOMERS"),
        "",
        "Customers whose jobs are never taken, separated by commas.",
    )
    customer_isolation: CustomerIsolation = setting(
        ("WORKER_CUSTOMER_ISOLATION", "CUSTOMER_ISOLATION"),
        CustomerIsolation.LOOSE,
        "`strict` takes jobs, too, that require `customer_isolation` to be strict: say so of a "
        "machine that keeps customers apart. Else `loose` or `none`.",
    )
