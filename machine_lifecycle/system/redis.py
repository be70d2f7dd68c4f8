"""The one place that makes connections to Redis, and knows what a Redis must offer.

Two facts of the client that shape it: redis-py from 8.0 on gives up on a reply after 5 s, which
breaks every blocking read, so a blocking connection has no such limit; and the C parser leaks some
bytes for each RESP3 push message, so that RESP2 is spoken everywhere.
"""

from __future__ import annotations

import asyncio
import re
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import (
    AuthenticationError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError

from machine_lifecycle.errors import LifecycleError
from machine_lifecycle.system.redis_errors import (
    RedisAuth,
    RedisEvicts,
    RedisRefuses,
    RedisTooOld,
    RedisUnreachable,
    Refusal,
)

__all__ = ["address_of", "as_lifecycle_error", "check", "connect", "masked", "refusal_of"]

_CONNECT_TIMEOUT = 2.0
_REPLY_TIMEOUT = 10.0
_CHECK_TIMEOUT = 5.0
_RETRIES = 2
_ANNOTATED = re.compile(r"^Command # .* of pipeline caused error: (?:\('(.*)',\)|(.*))$", re.DOTALL)
"""What redis-py puts around a refusal within a pipeline: the command, with its values."""
_OLDEST_MAJOR = 7
"""Functions came with 7.0 (redis.io, release notes of 7.0)."""


def connect(url: str, *, blocking: bool = False) -> Redis:
    """Make a client; nothing is sent until it is used.

    Args:
        url: ``redis://``, ``rediss://`` or ``unix://:password@/path/of.sock``.
        blocking: For subscriptions and blocking reads: waits for a reply without limit.

    A dead server shows within about 2 s as ``redis.exceptions.ConnectionError``.
    """
    options: dict[str, Any] = {
        "decode_responses": True,
        "protocol": 2,
        "socket_timeout": None if blocking else _REPLY_TIMEOUT,
        "socket_connect_timeout": _CONNECT_TIMEOUT,
        "retry": Retry(ExponentialBackoff(cap=0.5, base=0.05), 0 if blocking else _RETRIES),
    }
    if not url.startswith("unix:"):
        options["socket_keepalive"] = True
    return Redis.from_url(url, **options)


def masked(url: str) -> str:
    """The URL with ``***`` in the place of its password, and without its query."""
    parts = urlsplit(url)
    user, _, host = parts.netloc.rpartition("@")
    name, colon, _ = user.partition(":")
    netloc = f"{name}{':***' if colon else ''}@{host}" if user else host
    return urlunsplit((parts.scheme, netloc, parts.path, "", ""))


def address_of(url: str) -> str:
    """``host:port`` of the URL, or the path of its socket: fit for messages."""
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return parts.path
    return f"{parts.hostname or 'localhost'}:{parts.port or 6379}"


def as_lifecycle_error(error: Exception, url: str) -> LifecycleError:
    """What the client raised, as an error of ours with a remedy."""
    if isinstance(error, LifecycleError):
        return error
    address = address_of(url)
    text = _ANNOTATED.sub(r"\1\2", str(error)).rstrip(".")
    # A refusal while connecting comes wrapped as a broken connection.
    unknown = AuthenticationError
    if isinstance(error, unknown) or isinstance(error.__cause__, unknown) or "NOAUTH" in text:
        return RedisAuth(address=address)
    if refusal := refusal_of(error):
        return RedisRefuses(address=address, refusal=refusal, said=text)
    return RedisUnreachable(address=address, reason=text or type(error).__name__)


def refusal_of(error: BaseException | None) -> Refusal | None:
    """Why a server that answers refused; ``None`` for what is not an answer.

    redis-py has classes for some refusals, which then lack the word in front. What a function
    meets while it runs comes as a plain error with the words inside.
    """
    if isinstance(error, RedisConnectionError):
        error = error.__cause__  # a refusal while connecting comes wrapped as a broken connection
    if not isinstance(error, ResponseError):
        return None
    text = str(error)
    if isinstance(error, OutOfMemoryError) or "OOM command" in text:
        return Refusal.FULL
    if isinstance(error, ReadOnlyError) or "READONLY" in text:
        return Refusal.READ_ONLY
    if isinstance(error, NoPermissionError) or "NOPERM" in text or "ACL failure" in text:
        return Refusal.NOT_PERMITTED
    return Refusal.OTHER


async def check(redis: Redis, url: str) -> tuple[LifecycleError, ...]:
    """See whether this Redis can carry the queue; warnings, none if all is well.

    Raises:
        RedisUnreachable: It does not answer.
        RedisAuth: It refuses us.
        RedisTooOld: It has no Functions.
    """
    try:
        # Without it, one that takes connections and says nothing would be asked again and again.
        async with asyncio.timeout(_CHECK_TIMEOUT):
            info = await redis.info()
    except TimeoutError as error:
        silent = f"it is connected to, but said nothing in {_CHECK_TIMEOUT:g} s"
        raise RedisUnreachable(address=address_of(url), reason=silent) from error
    except (RedisError, OSError) as error:
        raise as_lifecycle_error(error, url) from error
    # A Valkey says 7.2.4 here for the sake of old clients, and its own version beside it.
    version = str(info.get("valkey_version") or info.get("redis_version", "0"))
    if int(version.split(".", maxsplit=1)[0]) < _OLDEST_MAJOR:
        raise RedisTooOld(address=address_of(url), version=version)
    policy = str(info.get("maxmemory_policy", "noeviction"))
    if policy != "noeviction":
        return (RedisEvicts(address=address_of(url), policy=policy),)
    return ()
