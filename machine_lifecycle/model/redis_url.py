"""The address of the queue, read once: where it is, and how it may be shown."""

from __future__ import annotations

import shlex
from urllib.parse import parse_qsl, unquote, urlsplit

import attrs

__all__ = ["RedisUrl"]

_PORT = 6379
_SENTINEL_PORT = 26379
_SENTINEL = "+sentinel"
_SCHEMES = ("redis", "rediss", "unix", f"redis{_SENTINEL}", f"rediss{_SENTINEL}")


@attrs.frozen
class RedisUrl:
    """Where a Redis is. The forms: ``redis://USER:PASSWORD@HOST:PORT/0``, ``unix://USER:PASSWORD@/PATH``
    and ``redis+sentinel://USER:PASSWORD@HOST:PORT,HOST:PORT/SERVICE/0``; ``rediss`` is with TLS.

    Attributes:
        scheme: What stands before ``://``.
        user: Decoded; empty if there is none.
        password: Decoded; empty if there is none.
        nodes: Host and port of the server, or of each Sentinel; none for a socket.
        path: Of the socket; empty for others.
        service: Name of the primary, as the Sentinels know it; empty without them.
        database: Its number.
        options: What the query says: ``ssl_ca_certs``, ``sentinel_password`` and others.
    """

    scheme: str
    user: str
    password: str = attrs.field(repr=False)
    nodes: tuple[tuple[str, int], ...]
    path: str
    service: str
    database: int
    options: dict[str, str] = attrs.field(repr=False)

    @classmethod
    def parse(cls, text: str) -> RedisUrl:
        """Read an address.

        Raises:
            ValueError: It is none; the words tell why, and hold no password.
        """
        parts = urlsplit(text)
        if parts.scheme not in _SCHEMES:
            raise ValueError(f"must begin with {', '.join(f'{each}://' for each in _SCHEMES)}")
        login, _, hosts = parts.netloc.rpartition("@")
        user, _, password = login.partition(":")
        path, service, database = unquote(parts.path), "", ""
        nodes: tuple[tuple[str, int], ...] = ()
        if parts.scheme == "unix":
            if not path:
                raise ValueError("names no socket")
        else:
            sentinel = parts.scheme.endswith(_SENTINEL)
            named = [each for each in hosts.split(",") if each]
            if not named:
                raise ValueError("names no host")
            nodes = tuple(_node(each, _SENTINEL_PORT if sentinel else _PORT) for each in named)
            if not sentinel and len(nodes) > 1:
                raise ValueError(f"several hosts are for redis{_SENTINEL}:// alone")
            words = path.strip("/").split("/")
            if sentinel:
                service = unquote(words.pop(0))
                if not service:
                    raise ValueError("names no service of the Sentinels after the last host")
            path, database = "", "/".join(words)
        options = dict(parse_qsl(parts.query))
        database = database or options.get("db", "0")
        if not database.isdecimal():
            raise ValueError(f"{database!r} is no number of a database")
        return cls(
            scheme=parts.scheme,
            user=unquote(user),
            password=unquote(password),
            nodes=nodes,
            path=path,
            service=service,
            database=int(database),
            options=options,
        )

    @property
    def secure(self) -> bool:
        """Whether it is spoken to over TLS."""
        return self.scheme.startswith("rediss")

    @property
    def address(self) -> str:
        """For messages: hosts with their ports and the service, or the path of the socket."""
        if self.path:
            return self.path
        nodes = ",".join(f"[{h}]:{port}" if ":" in h else f"{h}:{port}" for h, port in self.nodes)
        return f"{nodes}/{self.service}" if self.service else nodes

    @property
    def cli(self) -> str:
        """The call of ``redis-cli`` that reaches it, which asks for the password; for a shell. The
        first Sentinel is asked where the primary is.
        """
        host, port = self.nodes[0] if self.nodes else ("", 0)
        words = ["redis-cli", *(("-s", self.path) if self.path else ("-h", host, "-p", str(port)))]
        ca = self.options.get("ssl_ca_certs")
        tls = ["--tls", *(("--cacert", ca) if ca else ())] if self.secure else []
        rest = ["-n", str(self.database)] if self.database else []
        rest += ["--user", self.user] if self.user else []
        rest += ["--askpass"] if self.password else []
        if not self.service:
            return shlex.join([*words, *tls, *rest])
        ask = shlex.join([*words, *tls, "sentinel", "get-master-addr-by-name", self.service])
        login = "REDISCLI_AUTH=SENTINEL_PASSWORD " if "sentinel_password" in self.options else ""
        primary = 'redis-cli -h "${node% *}" -p "${node#* }"'
        found = f"node=$({login}{ask} | xargs) && {primary}"
        return f"{found} {shlex.join([*tls, *rest])}".rstrip()

    @property
    def masked(self) -> str:
        """The whole, with ``***`` in the place of the password and without its options."""
        login = f"{self.user}:***@" if self.password else f"{self.user}@" if self.user else ""
        database = f"/{self.database}" if self.database else ""
        return f"{self.scheme}://{login}{self.address}{database}"


def _node(text: str, default: int) -> tuple[str, int]:
    one = urlsplit(f"//{text}")
    if not one.hostname:
        raise ValueError("names no host")
    return one.hostname, one.port or default
