"""Results at which the server ends the connection, as they are more than it takes at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError

from machine_lifecycle.jobs.functions import QueueFunctions
from machine_lifecycle.jobs.outcomes import TOO_LARGE, Outcome

__all__ = ["Oversize", "suspected"]

_LEAST = 1024 * 1024
"""Bytes that every server takes: the least that its ``proto-max-bulk-len`` and its
``client-query-buffer-limit`` may be set to (redis.conf).
"""
_BREAKS = 3
"""How often a connection ends at the same result, with a server that answers each time after."""
_SAID = "ERR Protocol error"
"""How the server's own word for it begins, if that comes before the connection ends."""


def suspected(outcomes: Iterable[Outcome], error: Exception) -> bool:
    """Whether one of these may be why a call with all of them broke the connection."""
    broke = isinstance(error, (RedisConnectionError, OSError)) or str(error).startswith(_SAID)
    return broke and sum(outcome.weight for outcome in outcomes) > _LEAST


class Oversize:
    """Tells them from a server that went away while one was on its way."""

    def __init__(self, functions: QueueFunctions) -> None:
        """Make it.

        Args:
            functions: Of the server.
        """
        self._functions = functions
        self._breaks: Counter[tuple[str, int]] = Counter()

    async def found(self, outcome: Outcome, error: RedisError | OSError) -> str:
        """The answer to a result that is one; empty as long as that is not known.

        Args:
            outcome: It was sent alone.
            error: What came of it.

        Raises:
            RedisError: The server is away.
            OSError: Likewise.
        """
        if not suspected([outcome], error):
            return ""
        await self._functions.ping()
        key = (outcome.job_id, outcome.fence)
        self._breaks[key] += 1
        if self._breaks[key] < _BREAKS and not isinstance(error, ResponseError):
            return ""
        del self._breaks[key]
        return f"{TOO_LARGE} {outcome.weight} {error}"
