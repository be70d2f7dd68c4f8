"""Hosts that fall silent: found out once, by one question at a time, and not by every pack."""

from __future__ import annotations

import asyncio
import random
import socket
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar
from urllib.parse import urlsplit

import attrs

from machine_lifecycle.installers.errors import CommandFailed, HostDown

__all__ = ["Hosts", "host_of", "reach_one"]

_SUSPECT = 3
"""Repositories that got no answer, and none that did meanwhile."""
_PROBES = 3
"""Further questions, with a wait before each, until a suspect is given up."""
_CONNECT = 15.0
"""Seconds for a connection. Git has no such limit: to a host that swallows what is sent to it, it
tries for minutes, for each repository."""
_PORTS = {"http": 80, "https": 443}
_Answer = TypeVar("_Answer")


def host_of(url: str) -> str:
    """The host that an address is of; empty for a folder of this machine."""
    if "://" in url:
        return urlsplit(url).hostname or ""
    login, at, rest = url.partition("@")
    return rest.partition(":")[0] if at and "/" not in login else ""


@attrs.define
class _Host:
    silent: set[str] = attrs.field(factory=set)
    probes: int = 0
    known: bool = False
    turn: asyncio.Lock = attrs.field(factory=asyncio.Lock)

    def heard(self) -> None:
        """It answered, be it with a refusal."""
        self.known = True
        self.silent.clear()
        self.probes = 0


@attrs.define
class Hosts:
    """What is known of the hosts that one installation asks.

    A host is suspected once several repositories got no answer of it. From then on it is asked one
    question at a time, after a wait; if those fail too it is down, and nothing more is asked.

    Attributes:
        wait: Seconds before the first such question, at most; doubles each time.
        connect: Seconds for a connection to one that has not answered yet.
    """

    wait: float = 0.5
    connect: float = _CONNECT
    _known: defaultdict[str, _Host] = attrs.field(init=False, factory=lambda: defaultdict(_Host))

    async def ask(
        self,
        url: str,
        question: Callable[[], Awaitable[_Answer]],
        is_silence: Callable[[CommandFailed], bool],
        *,
        direct: bool = False,
    ) -> _Answer:
        """Ask the host of *url*, if it is one.

        Args:
            url: Of the repository, without credentials.
            question: Asks it.
            is_silence: Whether a failure of that says that nobody answers.
            direct: Whether git goes there itself: no proxy, no other address instead.

        Raises:
            HostDown: It is known not to answer.
            CommandFailed: Of the question.
        """
        name = host_of(url)
        if not name:
            return await question()
        host = self._known[name]
        if len(host.silent) < _SUSPECT:
            if direct and not host.known:
                await self._reach(host, url)
            return await self._asked(host, url, question, is_silence)
        async with host.turn:
            if len(host.silent) >= _SUSPECT:
                if host.probes >= _PROBES:
                    raise HostDown(host=name, url=url)
                # Full jitter, so that many machines do not come back as one.
                longest = self.wait * 2.0**host.probes
                await asyncio.sleep(random.uniform(longest / 2, longest))  # noqa: S311 - no secret
                host.probes += 1
                if direct and not host.known:
                    await self._reach(host, url)
                return await self._asked(host, url, question, is_silence)
        # It answered another one meanwhile: there is no queue any more.
        return await self._asked(host, url, question, is_silence)

    async def _reach(self, host: _Host, url: str) -> None:
        """See whether anybody takes a connection there."""
        parts = urlsplit(url)
        if parts.scheme not in _PORTS:
            return  # for ssh the time is limited by ConnectTimeout (see git_environment)
        port = parts.port or _PORTS[parts.scheme]
        try:
            await _connect(parts.hostname or "", port, self.connect)
        except (OSError, TimeoutError) as error:
            host.silent.add(url)
            raise HostDown(host=host_of(url), url=url) from error

    @staticmethod
    async def _asked(
        host: _Host,
        url: str,
        question: Callable[[], Awaitable[_Answer]],
        is_silence: Callable[[CommandFailed], bool],
    ) -> _Answer:
        try:
            answer = await question()
        except CommandFailed as error:
            if is_silence(error):
                host.silent.add(url)
            else:
                host.heard()
            raise
        host.heard()
        return answer


async def _connect(name: str, port: int, limit: float) -> None:
    """Have a connection to one of a host's addresses, within a time."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(limit):
        found = await loop.getaddrinfo(name, port, type=socket.SOCK_STREAM)
    await reach_one([(family, address) for family, *_, address in found], limit)


async def reach_one(addresses: Sequence[tuple[int, Any]], limit: float) -> None:
    """Have a connection to one of some addresses, each in its share of the time.

    Args:
        addresses: Families and addresses, as a socket takes them.
        limit: Seconds.

    Raises:
        OSError: There is none: the problem of the last.
    """
    loop = asyncio.get_running_loop()
    error: OSError = TimeoutError()
    for family, address in addresses:
        try:
            # A name may have addresses of a kind that this machine knows nothing of (IPv6).
            with socket.socket(family, socket.SOCK_STREAM) as one:
                one.settimeout(0)
                async with asyncio.timeout(limit / len(addresses)):
                    await loop.sock_connect(one, address)
                return
        except OSError as refused:  # a TimeoutError is one, too
            error = refused
    raise error
