"""A job as a worker holds it: what the claim answered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from machine_lifecycle.jobs.records import integer, json_object, number
from machine_lifecycle.jobs.unrunnable_errors import PayloadUnreadable
from machine_lifecycle.model.jobs import Job
from machine_lifecycle.system import json_codec

__all__ = ["Claimed"]


@attrs.frozen
class Claimed:
    """One claimed job.

    Attributes:
        id: In the queue.
        fence: The number under which this run may write: how often it was claimed so far.
        fields: Its hash as it was before the claim.
    """

    id: str
    fence: int
    fields: Mapping[str, str] = attrs.field(repr=False)

    @classmethod
    def from_answer(cls, answer: list[Any]) -> Claimed:
        """Out of id, fence and fields as JSON, as the queue's functions give a job. Where these
        can't be read there are none: the job fails, and nothing else does.
        """
        job_id, fence, record = answer
        try:
            return cls(job_id, int(fence), json_codec.texts(record))
        except (ValueError, RecursionError):
            return cls(job_id, int(fence), {})

    @classmethod
    def from_push(cls, job_id: str, fence: str, record: str) -> Claimed:
        """Out of what is told where anybody may tell something: the id as JSON, and the others.

        Raises:
            ValueError: It is no job.
            TypeError: Its id is no text.
            RecursionError: It is nested too deep.
        """
        name = json_codec.decode(job_id)
        if not isinstance(name, str):
            raise TypeError(f"{name!r} is no id")
        return cls(name, int(fence), json_codec.texts(record))

    @property
    def retry_count(self) -> int:
        """How many runs of it failed before."""
        return integer(self.fields.get("retry_count"), 0)

    @property
    def service_required(self) -> str:
        """What the job asks for."""
        return self.fields.get("service_required", "")

    @property
    def workflow_id(self) -> str:
        """The workflow it is a step of, or empty."""
        return self.fields.get("workflow_id", "")

    @property
    def payload_text(self) -> str:
        """What is to be done, as the JSON that was submitted."""
        return self.fields.get("payload") or "{}"

    def job(self, *, default_timeout: float) -> Job:
        """The job as a connector takes it.

        Args:
            default_timeout: Seconds, for a job that names no ``timeout_minutes`` of its own.

        Raises:
            PayloadUnreadable: Its payload is no JSON object, or nothing of it can be read.
        """
        if not self.fields:
            raise PayloadUnreadable(job_id=self.id, reason="is in a record that can't be read")
        text = self.fields.get("requirements")
        requirements = json_object(text) if text else {}
        minutes = number(
            self.fields.get("timeout_minutes") or requirements.get("timeout_minutes"), 0.0
        )
        ctx = self.fields.get("ctx")
        return Job(
            id=self.id,
            service_required=self.service_required,
            payload=self._payload(),
            requirements=requirements,
            attempt=self.retry_count + 1,
            claims=self.fence,
            timeout=minutes * 60 if minutes > 0 else default_timeout,
            ctx=json_object(ctx) if ctx else {},
        )

    def _payload(self) -> dict[str, Any]:
        try:
            value = json_codec.decode(self.payload_text)
        except ValueError as error:
            raise PayloadUnreadable(job_id=self.id, reason=f"is not JSON: {error}") from error
        except RecursionError as error:
            raise PayloadUnreadable(job_id=self.id, reason="is nested too deep") from error
        if value is not None and not isinstance(value, dict):
            raise PayloadUnreadable(job_id=self.id, reason="is no JSON object")
        return value or {}

    def attestation(self, **facts: Any) -> str:
        """The facts of this run as JSON, with what identifies it.

        Args:
            facts: What is to be attested.
        """
        request = self.payload_text
        get = self.fields.get
        return json_codec.encode(
            {
                "job_id": self.id,
                "retry_count": self.retry_count,
                "workflow_id": self.workflow_id,
                "current_step": get("current_step", ""),
                "total_steps": get("total_steps", ""),
                "raw_service_request": request if len(request) <= _REQUEST_KEPT else "",
                **facts,
            }
        )


_REQUEST_KEPT = 64 * 1024
"""Characters up to which a request is kept in the attestation."""
