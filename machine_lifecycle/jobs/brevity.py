"""What services and strangers' connectors say, as far as it is passed on.

The server, and the orchestrator, end a connection at more than they take at once: 1 MiB, at the
least. What a run says goes several times into one call, and a character may be 12 bytes of JSON.
"""

from __future__ import annotations

import json

from machine_lifecycle.errors import LifecycleError, RemoteError
from machine_lifecycle.jobs.errors import JobCrashed

__all__ = ["brief", "brief_error", "words_of"]

_MOST = 8192
"""Characters of one text."""
_LONGEST_REMEDY = 1024
_MOST_REMEDIES = 8
_LARGEST = 64 * 1024
"""Bytes of an error as JSON up to which it is passed on as it is."""


def brief(text: str) -> str:
    """A text; the middle of one that is too long is left out."""
    if len(text) <= _MOST:
        return text
    half = _MOST // 2
    left_out = len(text) - 2 * half
    return f"{text[:half]} … ({left_out} characters are left out) … {text[-half:]}"


def words_of(error: Exception) -> str:
    """What a stranger's code met; of a fault of its own, of which kind that is, too."""
    if isinstance(error, LifecycleError):
        return brief(error.summary)
    return brief(str(error) if isinstance(error, OSError) else f"{type(error).__name__}: {error}")


def brief_error(error: LifecycleError, job_id: str) -> LifecycleError:
    """An error of a run; one that is too large as what is left of it: each text is shortened, what
    can't be (the long remedies, the members of a group) is left out. One of a stranger's that can't
    even be told is a crash.
    """
    try:
        size = len(json.dumps(error.to_wire(), default=str))
    except Exception as broken:  # noqa: BLE001 - a stranger's words may raise anything
        words = f"its words can't be told: {broken}"
        return JobCrashed(job_id=job_id, kind=type(error).__name__, message=brief(words))
    if size <= _LARGEST:
        return error
    told = LifecycleError.to_wire(error)
    return RemoteError(
        wire={
            **told,
            "summary": brief(error.summary),
            "where": brief(error.where),
            "context": brief("\n".join(error.context)).split("\n"),
            "remedies": [
                remedy for remedy in told["remedies"] if len(str(remedy)) <= _LONGEST_REMEDY
            ][:_MOST_REMEDIES],
        }
    )
