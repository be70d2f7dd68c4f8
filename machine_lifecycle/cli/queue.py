"""What the commands around jobs share: finding the queue, showing a record."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import click

from machine_lifecycle.cli.environment import environment, open_settings
from machine_lifecycle.model.settings import Settings

if TYPE_CHECKING:
    from machine_lifecycle.jobs.client import JobQueue
    from machine_lifecycle.jobs.records import JobRecord

__all__ = ["age", "open_queue", "queue_url", "record_json"]


def queue_url(settings: Settings) -> str:
    """Where the queue is that the settings name, else that of the machine which runs here.

    Raises:
        MachineNotRunning: There is neither.
    """
    from machine_lifecycle.system.folders import find_paths  # noqa: PLC0415 - heavy
    from machine_lifecycle.system.valkey import read_discovery  # noqa: PLC0415 - likewise

    return settings.redis_url or read_discovery(find_paths(settings, environment())).url


@asynccontextmanager
async def open_queue(ctx: click.Context) -> AsyncIterator[JobQueue]:
    """The queue that the settings name, else that of the machine which runs here.

    Raises:
        MachineNotRunning: There is neither.
        RedisUnreachable: It does not answer.
        RedisRefuses: It answers, and does not do what it is asked.
    """
    from machine_lifecycle.jobs.client import open_job_queue  # noqa: PLC0415 - redis is heavy

    async with open_job_queue(queue_url(open_settings(ctx).settings)) as queue:
        yield queue


def record_json(record: JobRecord) -> dict[str, Any]:
    """A job as it is shown with ``--json``."""
    return {
        "id": record.id,
        "status": record.status,
        "service_required": record.service_required,
        "priority": record.priority,
        "progress": record.progress,
        "message": record.message,
        "worker_id": record.worker_id,
        "retry_count": record.retry_count,
        "max_retries": record.max_retries,
        "created_at": record.fields.get("created_at", ""),
        "started_at": record.fields.get("started_at", ""),
        "ended_at": record.fields.get("completed_at") or record.fields.get("failed_at", ""),
        "error": record.error,
        "error_details": dict(record.error_details),
        "requirements": dict(record.requirements),
        "workflow_id": record.workflow_id,
        "result": record.result,
        "history": [dict(run) for run in record.history],
    }


def age(milliseconds: int) -> float:
    """Seconds since then."""
    return max(0.0, time.time() - milliseconds / 1000) if milliseconds else 0.0
