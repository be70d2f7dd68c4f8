"""A job on its way into the queue: its hash, its message, and its place."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from machine_lifecycle.jobs.records import JobRecord, json_object
from machine_lifecycle.jobs.score import score
from machine_lifecycle.jobs.unrunnable_errors import JobUnrunnable
from machine_lifecycle.system.redis_keys import iso

__all__ = ["INDEXED", "Submission"]

_TOLD_MOST = 1024 * 1024
"""Bytes of a payload up to which it is told to who listens: a server ends the connection of those
who are told more than 32 MB at once (``client-output-buffer-limit`` of redis.conf).
"""

INDEXED = b'{"indexed": true'
"""How the message of a job begins that was submitted through the queue's functions: it is in the
index already. Other parties' messages begin otherwise."""

_LARGEST = 2**53
"""Beyond it a double, of which JSON and Redis make all numbers, leaves some out."""


def _text(value: Any) -> str:
    if not isinstance(value, str):
        return f"must be a text, not {type(value).__name__}"
    whole = "\0" not in value and value.encode(errors="replace").decode() == value
    return "" if whole else "holds what is no character"


def _object(value: Any) -> str:
    return "" if isinstance(value, Mapping) else f"must be an object, not {type(value).__name__}"


def _number(value: Any) -> str:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return f"must be a number, not {type(value).__name__}"
    # What is no number at all is not less than any.
    return "" if abs(value) <= _LARGEST else "is more than can be counted with"


def _minutes(value: Any) -> str:
    return _number(value) or ("" if value > 0 else f"is {value:g}, and must be more than 0")


def _if_given(fault: Callable[[Any], str]) -> Callable[[Any], str]:
    return lambda value: "" if value is None else fault(value)


_FAULTS: Mapping[str, Callable[[Any], str]] = {
    "payload": _object,
    **dict.fromkeys(("job_id", "service_required", "customer_id", "workflow_id"), _text),
    **dict.fromkeys(("priority", "max_retries"), _number),
    **dict.fromkeys(("requirements", "ctx"), _if_given(_object)),
    **dict.fromkeys(("workflow_priority", "workflow_datetime"), _if_given(_number)),
    **dict.fromkeys(("current_step", "total_steps"), _if_given(_number)),
    "timeout_minutes": _if_given(_minutes),
}
"""What is wrong with a field, if it is of another kind than it should be: a submitter may pass on
what somebody sent it.
"""


@attrs.frozen(kw_only=True)
class Submission:
    """What was submitted. ``JobQueue.submit`` says what the fields mean.

    Attributes:
        now: When, in milliseconds since 1970.
    """

    job_id: str
    now: int
    payload: Mapping[str, Any]
    service_required: str
    priority: int
    requirements: Mapping[str, Any] | None
    customer_id: str
    max_retries: int
    timeout_minutes: float | None
    ctx: Mapping[str, Any] | None
    workflow_id: str
    workflow_priority: int | None
    workflow_datetime: int | None
    current_step: int | None
    total_steps: int | None

    def __attrs_post_init__(self) -> None:
        found = ((name, fault(getattr(self, name))) for name, fault in _FAULTS.items())
        if faults := [f"{name} {words}" for name, words in found if words]:
            raise JobUnrunnable(reason=", and ".join(faults))

    def fields(self) -> dict[str, Any]:
        """The job's hash. What is empty is left out where that reads alike."""
        fields = {
            "id": self.job_id,
            "service_required": self.service_required,
            "priority": self.priority,
            "payload": _json("payload", self.payload),
            "requirements": _canonical(self.requirements),
            "customer_id": self.customer_id,
            "created_at": iso(self.now),
            "status": "pending",
            "retry_count": 0,
            "max_retries": self.max_retries,
            **self._step(),
        }
        return fields | ({"ctx": _json("ctx", self.ctx)} if self.ctx else {})

    def words(self) -> tuple[str | int, ...]:
        """As ``ml1_submit`` takes it."""
        fields = self.fields()
        message = self._message(fields["payload"])
        words = (word for field in fields.items() for word in field)
        return (self.job_id, self.place(), message, *words)

    @property
    def key(self) -> str:
        """Its id."""
        return self.job_id

    @property
    def weight(self) -> int:
        """Bytes that are sent for it, about."""
        return sum(len(word) for word in self.words() if isinstance(word, str))

    def asks_as(self, known: JobRecord) -> bool:
        """Whether a job of the same id asks for the same."""
        fields = self.fields()
        return (
            known.service_required == self.service_required
            and known.payload == json_object(fields["payload"])
            and known.requirements == json_object(fields["requirements"] or "{}")
        )

    def _message(self, payload: str) -> str:
        """What is told to those who listen for new jobs; of a large one, all but its payload."""
        message = json.dumps(
            {
                "indexed": True,
                "job_id": self.job_id,
                "service_required": self.service_required,
                "priority": self.priority,
                "requirements": self.requirements,
                "customer_id": self.customer_id,
                "created_at": iso(self.now),
                "status": "pending",
                "timestamp": self.now,
                **self._step(),
            }
        )
        return f'{message[:-1]}, "payload": {payload}}}' if len(payload) <= _TOLD_MOST else message

    def place(self) -> int:
        """Its score: steps of one workflow share the workflow's."""
        priority = self.priority if self.workflow_priority is None else self.workflow_priority
        return score(priority, self.workflow_datetime or self.now)

    def _step(self) -> dict[str, Any]:
        facts = {
            "workflow_priority": self.workflow_priority,
            "workflow_datetime": self.workflow_datetime,
            "current_step": self.current_step,
            "total_steps": self.total_steps,
            "timeout_minutes": self.timeout_minutes,
        }
        known = {name: value for name, value in facts.items() if value is not None}
        return {"workflow_id": self.workflow_id, **known} if self.workflow_id else known


def _canonical(requirements: Mapping[str, Any] | None) -> str:
    """Equal requirements read alike, so that the queue matches them once."""
    return _json("requirements", requirements, sort_keys=True) if requirements else ""


def _json(name: str, value: Mapping[str, Any], *, sort_keys: bool = False) -> str:
    try:
        return json.dumps(value, allow_nan=False, sort_keys=sort_keys)
    except (TypeError, ValueError, RecursionError) as error:
        raise JobUnrunnable(reason=f"its {name} can't be written as JSON: {error}") from error
