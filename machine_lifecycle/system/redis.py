"""The one place that makes connections to Redis, and knows what a Redis must offer.

Two facts of the client that shape it: redis-py from 8.0 on gives up on a reply after 5 s, which
breaks every blocking read, so a blocking connection has no such limit; and the C parser leaks some
bytes for each RESP3 push message, so that RESP2 is spoken everywhere.
"""

from __future__ import annotations

import asyncio
import random
import re
import socket
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.connection import URL_QUERY_ARGUMENT_PARSERS, SSLConnection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelManagedConnection
from redis.backoff import EqualJitterBackoff, NoBackoff
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
from machine_lifecycle.model.redis_url import RedisUrl
from machine_lifecycle.system.redis_errors import (
    RedisAuth,
    RedisCertificate,
    RedisEvicts,
    RedisFunctionsRefused,
    RedisKeyForeign,
    RedisRefuses,
    RedisTooOld,
    RedisUnreachable,
    Refusal,
)
from machine_lifecycle.system.redis_foreign import ForeignKey
from machine_lifecycle.system.redis_functions import FunctionsRefused

__all__ = ["as_lifecycle_error", "check", "connect", "refusal_of", "spread"]

_CONNECT_TIMEOUT = 2.0
"""Seconds for a connection."""
_REPLY_TIMEOUT = 10.0
"""Seconds for an answer, where nothing is waited for on purpose."""
_CHECK_TIMEOUT = 5.0
"""Seconds for all that is asked of a Redis before it is used."""
_RETRIES = 2
"""Further tries of a command whose connection broke."""
_KEEPALIVE = {
    getattr(socket, name): value
    for name, value in (("TCP_KEEPIDLE", 15), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3))
    if hasattr(socket, name)
}
"""A peer that is gone without a word is found within half a minute, by who only listens too."""
_ANNOTATED = re.compile(
    r"^Command # .* of pipeline caused error: (?:\((?P<q>['\"])(.*)(?P=q),\)|(.*))$", re.DOTALL
)
"""What redis-py puts around a refusal within a pipeline: the command, with its values."""
_SENTINELS = re.compile(r"^(No master found for '.*?') : .*", re.DOTALL)
"""What redis-py tells of Sentinels that do not answer: its own objects."""
_TLS = re.compile(r".*certificate verify failed: (.*?)(?: \(_ssl.*)?", re.DOTALL)
"""What OpenSSL puts around its reason."""
_OLDEST_MAJOR = 7
"""Functions came with 7.0 (redis.io, release notes of 7.0)."""


def connect(url: str, *, blocking: bool = False) -> Redis:
    """Make a client; nothing is sent until it is used.

    Args:
        url: As ``RedisUrl`` reads it.
        blocking: For subscriptions and blocking reads: waits for a reply without limit.

    A dead server shows within about 2 s as ``redis.exceptions.ConnectionError``.
    """
    options: dict[str, Any] = {
        "decode_responses": True,
        "encoding_errors": "replace",  # what others wrote may be no text
        "protocol": 2,
        "socket_timeout": None if blocking else _REPLY_TIMEOUT,
        "socket_connect_timeout": _CONNECT_TIMEOUT,
        "retry": Retry(EqualJitterBackoff(cap=0.5, base=0.05), 0 if blocking else _RETRIES),
    }
    where = RedisUrl.parse(url)
    if not where.path:
        options |= {"socket_keepalive": True, "socket_keepalive_options": _KEEPALIVE}
    return _through_sentinels(where, options) if where.service else Redis.from_url(url, **options)


class _Following(SentinelManagedConnection):
    """A connection to the primary that the Sentinels name, now and after each change of it."""

    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:  # noqa: FBT001, FBT002 - redis-py's
        """Send; over a new connection if the old one broke. redis-py itself would go back to the
        server that was the primary, and a client with one connection for ever.
        """
        if not self.is_connected:
            await self.connect()  # type: ignore[no-untyped-call]  # redis-py has no types here
        await super().send_packed_command(command, check_health)


class _FollowingSecurely(_Following, SSLConnection):
    """The same with TLS."""


class _FollowingRedis(Redis):
    """A client that lets go of the Sentinels, too."""

    async def aclose(self, *args: Any) -> None:
        """Let go of the primary and of the Sentinels."""
        await super().aclose(*args)
        pool: Any = self.connection_pool
        for each in pool.sentinel_manager.sentinels:
            await each.aclose()


def _through_sentinels(where: RedisUrl, options: dict[str, Any]) -> Redis:
    tls: dict[str, Any] = {"ssl": True} if where.secure else {}
    tls |= {
        name: URL_QUERY_ARGUMENT_PARSERS.get(name, str)(value)
        for name, value in where.options.items()
        if name.startswith("ssl_")
    }
    asking = {
        "password": where.options.get("sentinel_password"),
        "socket_timeout": _CONNECT_TIMEOUT,
        "socket_connect_timeout": _CONNECT_TIMEOUT,
        # The next Sentinel is asked instead: redis-py's own tries would take 3.6 s for a dead one.
        "retry": Retry(NoBackoff(), 0),
    }
    make: Any = Sentinel  # redis-py gives it no types
    sentinels = make(where.nodes, sentinel_kwargs=asking | tls)
    login = {"username": where.user or None, "password": where.password or None}
    options |= {**tls, **login, "db": where.database}
    options["connection_class"] = _FollowingSecurely if where.secure else _Following
    found: Redis = sentinels.master_for(where.service, redis_class=_FollowingRedis, **options)
    return found


def as_lifecycle_error(error: Exception, url: str) -> LifecycleError:
    """What the client raised, as an error of ours with a remedy."""
    if isinstance(error, LifecycleError):
        return error
    where = RedisUrl.parse(url)
    address, cli = where.address, where.cli
    if isinstance(error, ForeignKey):
        return RedisKeyForeign(address=address, key=error.key, kind=error.kind, cli=cli)
    text = _ANNOTATED.sub(r"\2\3", str(error)).rstrip(".")
    text = _SENTINELS.sub(r"\1, and not all Sentinels answer", text)
    # A refusal while connecting comes wrapped as a broken connection.
    unknown = AuthenticationError
    if isinstance(error, unknown) or isinstance(error.__cause__, unknown) or "NOAUTH" in text:
        return RedisAuth(address=address)
    if refusal := refusal_of(error):
        library = error.library if isinstance(error, FunctionsRefused) else None
        return _refuses(where, refusal, text, library)
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return RedisCertificate(address=address, reason=_TLS.sub(r"\1", text))
    return RedisUnreachable(address=address, reason=text or type(error).__name__, cli=cli)


def _refuses(
    where: RedisUrl, refusal: Refusal, said: str, library: str | None
) -> RedisRefuses | RedisFunctionsRefused:
    """What it refuses; *library*, of the functions, is what stands in their way, if anything."""
    address, cli = where.address, where.cli
    if library is not None and refusal is Refusal.OTHER:
        return RedisFunctionsRefused(address=address, said=said, library=library, cli=cli)
    return RedisRefuses(address=address, refusal=refusal, said=said, cli=cli)


def spread(seconds: float) -> float:
    """From half of it to all: so that a fleet does not come back to a server in one moment."""
    return seconds * random.uniform(0.5, 1.0)  # noqa: S311 - guards nothing


def refusal_of(error: BaseException | None) -> Refusal | None:
    """Why a server that answers refused; ``None`` for what is not an answer.

    redis-py has classes for some refusals, which then lack the word in front. What a function
    meets while it runs comes as a plain error with the words inside.
    """
    if isinstance(error, RedisConnectionError | FunctionsRefused):
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
    where = RedisUrl.parse(url)
    try:
        # Without a limit, a server that takes connections and never answers is asked for ever.
        async with asyncio.timeout(_CHECK_TIMEOUT):
            info = await redis.info()
    except TimeoutError as error:
        silent = f"it is connected to, but said nothing in {_CHECK_TIMEOUT:g} s"
        raise RedisUnreachable(address=where.address, reason=silent, cli=where.cli) from error
    except (RedisError, OSError) as error:
        raise as_lifecycle_error(error, url) from error
    # A Valkey says 7.2.4 here for the sake of old clients, and its own version beside it.
    version = str(info.get("valkey_version") or info.get("redis_version", "0"))
    if int(version.split(".", maxsplit=1)[0]) < _OLDEST_MAJOR:
        raise RedisTooOld(address=where.address, version=version)
    policy = str(info.get("maxmemory_policy", "noeviction"))
    if policy != "noeviction":
        return (RedisEvicts(address=where.address, policy=policy, cli=where.cli),)
    return ()
