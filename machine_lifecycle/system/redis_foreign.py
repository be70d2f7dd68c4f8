"""Keys that all parties share, and what another one may have put in their place."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from redis.exceptions import ResponseError

from machine_lifecycle.system import redis_keys as keys

__all__ = ["ForeignKey", "name_foreign"]

_LENGTHS = {"hash": "HLEN", "set": "SCARD", "sorted set": "ZCARD", "string": "STRLEN"}
"""What each kind is asked, and nothing else answers. A user with the least rights has no TYPE."""

_KINDS = {
    **dict.fromkeys((keys.PENDING, keys.DELAYED, keys.LEASES, keys.DEAD), "sorted set"),
    **dict.fromkeys((keys.COMPLETED, keys.FAILED, keys.DEAD_REASONS), "hash"),
    **dict.fromkeys((f"{keys.COMPLETED}:at", f"{keys.FAILED}:at"), "sorted set"),
    **dict.fromkeys((f"{keys.COMPLETED}:heavy", f"{keys.FAILED}:heavy"), "hash"),
    **dict.fromkeys((f"{keys.COMPLETED}:heavy:at", f"{keys.FAILED}:heavy:at"), "sorted set"),
    **dict.fromkeys((f"{keys.COMPLETED}:heavy:bytes", f"{keys.FAILED}:heavy:bytes"), "string"),
    **dict.fromkeys(("jobs:classes", "jobs:profiles", "jobs:leaving", "jobs:telling"), "hash"),
    **dict.fromkeys(("jobs:classes:used", "jobs:profiles:used"), "sorted set"),
    **dict.fromkeys((keys.ACTIVE_WORKERS, "jobs:pins", "jobs:unworkable", "jobs:personal"), "set"),
    **dict.fromkeys(
        (
            *("jobs:index:size", "jobs:index:cursor", "jobs:index:swept"),
            *("jobs:foreign", "jobs:ear", "jobs:heard", "jobs:spared"),
        ),
        "string",
    ),
}
"""Of jobs and workers at large. What stands in place of a job's own keys ends that job alone."""


class ForeignKey(ResponseError):
    """A key of the queue is of a kind that it never is.

    Attributes:
        key: Which.
        kind: What it is where the queue alone writes it.
    """

    def __init__(self, key: str, kind: str) -> None:
        super().__init__(f"{key} is no {kind}: somebody else has put something in its place")
        self.key = key
        self.kind = kind


async def name_foreign(
    execute: Callable[..., Awaitable[Any]], error: ResponseError, worker_id: str = ""
) -> ResponseError:
    """Say of which key it is that a call met something of the wrong kind.

    Args:
        execute: Asks the server.
        error: What the call met.
        worker_id: Whose call it may have been.

    Returns:
        A ``ForeignKey``; the same error where it is none of the keys that are known.
    """
    if "WRONGTYPE" not in str(error):
        return error
    own = {keys.worker(worker_id): "hash", keys.active(worker_id): "hash"} if worker_id else {}
    for key, kind in (_KINDS | own).items():
        try:
            await execute(_LENGTHS[kind], key)
        except ResponseError as wrong:
            if "WRONGTYPE" in str(wrong):
                return ForeignKey(key, kind)
    return error
