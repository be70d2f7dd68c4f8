"""Results and jobs at which the server ends the connection: they are more than it takes at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable
from typing import Any, Protocol

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError

from machine_lifecycle.jobs.functions import QueueFunctions
from machine_lifecycle.jobs.listing import hash_of
from machine_lifecycle.jobs.outcomes import TOO_LARGE

__all__ = ["Oversize", "limits_of", "suspected"]

_LEAST = 1024 * 1024
"""Bytes that every server takes: the least that its ``proto-max-bulk-len`` and its
``client-query-buffer-limit`` may be set to (redis.conf).
"""
_LIMITS = ("proto-max-bulk-len", "client-query-buffer-limit")
_BREAKS = 3
"""How often a connection ends at the same thing, with a server that answers each time after."""
_SAID = "ERR Protocol error"
"""How the server's own word for it begins, if that comes before the connection ends."""


class Sent(Protocol):
    """What goes to the server in one call."""

    @property
    def key(self) -> Hashable:
        """Tells it from others."""

    @property
    def weight(self) -> int:
        """Its bytes, about."""


def suspected(sent: Iterable[Sent], error: Exception) -> bool:
    """Whether one of these may be why a call with all of them broke the connection."""
    broke = isinstance(error, (RedisConnectionError, OSError)) or str(error).startswith(_SAID)
    return broke and sum(each.weight for each in sent) > _LEAST


async def limits_of(redis: Any) -> dict[str, int]:
    """What a server takes at once, in bytes, by the names of its settings; empty if it does not
    tell this user.
    """
    try:
        told = await redis.execute_command("CONFIG", "GET", *_LIMITS)
    except ResponseError:
        return {}
    return {name: int(most) for name, most in hash_of(told).items()}


class Oversize:
    """Tells them from a server that went away while one was on its way."""

    def __init__(self, functions: QueueFunctions) -> None:
        """Make it.

        Args:
            functions: Of the server.
        """
        self._functions = functions
        self._breaks: Counter[Hashable] = Counter()

    async def found(self, sent: Sent, error: RedisError | OSError) -> str:
        """The answer to what is one; empty as long as that is not known.

        Args:
            sent: It was sent alone.
            error: What came of it.

        Raises:
            RedisError: The server is away.
            OSError: Likewise.
        """
        if not suspected([sent], error):
            return ""
        await self._functions.ping()
        self._breaks[sent.key] += 1
        if self._breaks[sent.key] < _BREAKS and not isinstance(error, ResponseError):
            return ""
        del self._breaks[sent.key]
        return f"{TOO_LARGE} {sent.weight} {error}"
