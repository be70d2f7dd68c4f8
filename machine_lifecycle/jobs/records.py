"""The job hash as a value, and times as they are written."""

from __future__ import annotations

import base64
import contextlib
import json
import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import attrs

from machine_lifecycle.model.jobs import Preview
from machine_lifecycle.system import json_codec

__all__ = [
    "TERMINAL",
    "JobEvent",
    "JobRecord",
    "from_iso",
    "integer",
    "json_object",
    "number",
    "preview_from_message",
    "preview_message",
    "record_from_hash",
]

TERMINAL = frozenset({"completed", "failed", "cancelled", "timeout"})
_NOT_BEGUN = frozenset({"pending", "queued", "unworkable", "assigned"})


def from_iso(text: str) -> int:
    """Milliseconds since 1970; ``seconds.microseconds`` is read as well. 0 for no time at all."""
    if not text:
        return 0
    with contextlib.suppress(ValueError, OverflowError):
        return round(float(text) * 1000)
    try:
        return round(datetime.fromisoformat(text).timestamp() * 1000)
    except (ValueError, OverflowError, OSError):  # the latter two: beyond what the system counts
        return 0


def json_object(text: str | bytes | None) -> dict[str, Any]:
    """A JSON object out of a hash field, or a message; empty for what is none."""
    try:
        value = json_codec.decode(text or "{}")
    except (ValueError, RecursionError):  # the latter: it is nested deeper than can be read
        return {}
    return value if isinstance(value, dict) else {}


@attrs.frozen(kw_only=True)
class JobRecord:
    """One job as the queue knows it. Times are milliseconds since 1970, 0 for not yet.

    Attributes:
        status: ``pending``, ``unworkable`` (waiting, and no living worker can run it),
            ``assigned``, ``in_progress``, ``completed``, ``failed`` or ``cancelled``; other
            parties also write ``queued``, ``accepted`` and ``timeout``.
        progress: Percent.
        result: Metadata of what came out, for a completed job.
        history: How its runs ended that did not complete it, the last ten: ``at``, ``worker``,
            ``event``, ``error``.
        fields: The hash itself.
    """

    id: str
    status: str
    service_required: str
    priority: int
    payload: Mapping[str, Any]
    requirements: Mapping[str, Any]
    customer_id: str
    retry_count: int
    max_retries: int
    worker_id: str
    workflow_id: str
    fence: int
    created_ms: int
    assigned_ms: int = 0
    started_ms: int = 0
    ended_ms: int = 0
    error: str = ""
    error_details: Mapping[str, Any] = attrs.field(factory=dict)
    progress: float = 0
    message: str = ""
    result: Mapping[str, Any] | None = None
    history: tuple[Mapping[str, Any], ...] = ()
    fields: Mapping[str, str] = attrs.field(factory=dict, repr=False)

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.status in TERMINAL


@attrs.frozen(kw_only=True)
class JobEvent:
    """Something that happened to a job that is watched.

    Attributes:
        kind: ``submitted``, ``claimed``, ``progress``, ``preview``, ``retrying``, ``completed``,
            ``failed`` or ``cancelled``.
        preview: The picture of a ``preview``.
        percent: 0 to 100.
        job: The whole record, in the first event that is no replay, and in the last.
        at: Of a replay: when it happened, in milliseconds since 1970.
    """

    kind: str
    job_id: str
    percent: float = 0
    message: str = ""
    step: int = 0
    steps: int = 0
    worker_id: str = ""
    job: JobRecord | None = None
    preview: Preview | None = None
    at: int = 0


def preview_message(preview: Preview) -> str:
    """A preview as it is published."""
    data = base64.b64encode(preview.data).decode("ascii")
    return json.dumps({"mime_type": preview.mime, "data": data})


def preview_from_message(text: bytes) -> Preview | None:
    """A preview as it was published; ``None`` for what is none."""
    facts = json_object(text)
    try:
        data = base64.b64decode(str(facts.get("data", "")), validate=True)
    except ValueError:
        return None
    mime = str(facts.get("mime_type", "application/octet-stream"))
    return Preview(mime=mime, data=data) if data else None


def record_from_hash(fields: Mapping[str, str], progress: Mapping[str, str]) -> JobRecord:
    """The record of a job.

    Args:
        fields: Its hash.
        progress: Its progress hash.
    """
    get = fields.get
    # What waits, or was only just given to a worker, has got nowhere; an earlier run of it had.
    progress = {} if get("status") in _NOT_BEGUN else progress
    return JobRecord(
        id=get("id", ""),
        status=get("status", ""),
        service_required=get("service_required", ""),
        priority=integer(get("priority"), 50),
        payload=json_object(get("payload")),
        requirements=json_object(get("requirements")),
        customer_id=get("customer_id", ""),
        retry_count=integer(get("retry_count"), 0),
        max_retries=integer(get("max_retries"), 3),
        worker_id=get("worker_id", ""),
        workflow_id=get("workflow_id", ""),
        fence=integer(get("fence"), 0),
        created_ms=from_iso(get("created_at", "")),
        assigned_ms=from_iso(get("assigned_at", "")),
        started_ms=from_iso(get("started_at", "")),
        ended_ms=from_iso(get("completed_at", "") or get("failed_at", "")),
        error=get("error", ""),
        error_details=json_object(get("error_details")),
        progress=100.0 if get("status") == "completed" else number(progress.get("progress"), 0.0),
        message=progress.get("message", ""),
        history=_list(get("history")),
        fields=dict(fields),
    )


def _list(text: str | None) -> tuple[Mapping[str, Any], ...]:
    try:
        found = json_codec.decode(text or "[]")
    except (ValueError, RecursionError):
        return ()
    return tuple(one for one in found if isinstance(one, dict)) if isinstance(found, list) else ()


def number(text: object, default: float) -> float:
    """What another party wrote, if it is a number that one can count with."""
    if text is None:
        return default
    try:
        found = float(str(text))
    except ValueError:
        return default
    return found if math.isfinite(found) else default


def integer(text: object, default: int) -> int:
    """Likewise, without what comes after the point."""
    return int(number(text, default))
