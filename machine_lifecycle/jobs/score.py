"""Where a job stands in ``jobs:pending``, and ids that keep the order exact.

The score is ``priority * 10^15 - seconds since 1970``: a higher one goes first. A double can't hold
that to the second from priority 9 on (at 50 neighbouring scores are 8 apart), so that jobs of one
moment tie; ties are broken by the id, highest first. Our ids therefore count time downwards.
"""

from __future__ import annotations

import hashlib
import secrets
import uuid
from itertools import count

__all__ = ["id_of_key", "job_id", "score"]

_PRIORITY_STEP = 1_000_000_000_000_000
_COUNTER = count()


def score(priority: int, created_ms: int) -> int:
    """The score of a job.

    Args:
        priority: 0 to 100; a higher one goes first, always.
        created_ms: Milliseconds since 1970 when it, or its workflow, was submitted.
    """
    return priority * _PRIORITY_STEP - created_ms // 1000


def job_id(created_ms: int) -> str:
    """A new id in the form of a UUID (version 8, RFC 9562), lower for a later time."""
    time = (1 << 48) - 1 - created_ms
    order = 0xFFF - next(_COUNTER) % 0x1000
    tail = (0b10 << 62) | secrets.randbits(62)
    digits = f"{time:012x}8{order:03x}{tail:016x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def id_of_key(key: str) -> str:
    """The id of the job that goes by an idempotency key; empty for no key."""
    if not key:
        return ""
    digest = hashlib.sha256(key.encode(errors="surrogatepass")).digest()
    return str(
        uuid.UUID(
            bytes=digest[:6]
            + bytes([0x80 | digest[6] & 0xF, digest[7], 0x80 | digest[8] & 0x3F])
            + digest[9:16]
        )
    )
