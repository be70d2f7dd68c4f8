"""One question to a web server for a file, or for the rest of one, and what its answer means."""

from __future__ import annotations

import re
import ssl
import urllib.request
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

from machine_lifecycle.config.models import plain_address
from machine_lifecycle.installers.credentials import Credentials
from machine_lifecycle.installers.download_errors import (
    DownloadInterrupted,
    DownloadMissing,
    DownloadRefused,
)

if TYPE_CHECKING:
    import aiohttp

__all__ = ["Unreached", "announced", "ask", "host_in", "opened", "seconds_to_wait"]

_REDIRECTS = 10
"""Redirects that are followed for one file at most."""
_MOVED = frozenset({301, 302, 303, 307, 308})
_BUSY = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses after which the same question may be answered (RFC 9110; 425: RFC 8470)."""
_REFUSED = frozenset({401, 403, 407, 451})
_GOOD = frozenset({200, 206, 416})


class Unreached(Exception):
    """A host gave no connection. Never leaves this room.

    Attributes:
        host: Its name.
    """

    def __init__(self, host: str, problem: str) -> None:
        super().__init__(problem)
        self.host = host


@asynccontextmanager
async def opened(
    environ: Mapping[str, str], *, connect: float, silence: float
) -> AsyncIterator[aiohttp.ClientSession]:
    """A session that keeps no cookies, and adds nothing that it was not told to send.

    Args:
        environ: Certificates are named there (``SSL_CERT_FILE``, ``SSL_CERT_DIR``).
        connect: Seconds for a connection.
        silence: Seconds without a byte.
    """
    import aiohttp  # noqa: PLC0415 - heavy, and most boots download nothing

    file, folder = environ.get("SSL_CERT_FILE"), environ.get("SSL_CERT_DIR")
    async with aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=connect, sock_read=silence),
        connector=aiohttp.TCPConnector(
            ssl=ssl.create_default_context(cafile=file or None, capath=folder or None)
        ),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        read_bufsize=1 << 20,
        trust_env=False,  # it would read a netrc file, and the environment of this process
    ) as session:
        yield session


@asynccontextmanager
async def ask(
    session: aiohttp.ClientSession,
    credentials: Credentials,
    wanted: Mapping[str, str],
    *,
    proved: bool,
    start: str = "",
) -> AsyncIterator[aiohttp.ClientResponse]:
    """The answer that has the file: 200, 206 or 416. Each host on the way gets its own secret only.

    Args:
        session: Made by ``opened``.
        credentials: Address and secrets.
        wanted: Headers: which part of the file.
        proved: Whether the digest is known, so that it may come over an open line.
        start: Where to ask instead: where an earlier answer came from.

    Raises:
        DownloadRefused: A login is wanted.
        DownloadMissing: There is no such file.
        DownloadInterrupted: The server can't answer now.
        Unreached: There is no connection.
    """
    import aiohttp  # noqa: PLC0415 - see above
    from yarl import URL  # noqa: PLC0415 - aiohttp's own

    url = start or credentials.start
    for _ in range(_REDIRECTS):
        headers = {"Accept-Encoding": "identity", **wanted, **credentials.headers(url)}
        # An address that is percent-encoded already must not be encoded again: a signature in it is
        # over its exact text.
        address = URL(url, encoded=url.isascii())
        proxy = _proxy(url, credentials.environ)
        try:
            asked = await session.get(address, headers=headers, allow_redirects=False, proxy=proxy)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise Unreached(host_in(url), _reason(error)) from error
        async with asked as answer:
            if answer.status not in _MOVED:
                _check(answer, credentials, url)
                yield answer
                return
            url = _next(credentials, url, answer.headers.get("Location", ""), proved=proved)
    raise DownloadMissing(
        url=plain_address(credentials.url), problem=f"it sends on more than {_REDIRECTS} times"
    )


async def announced(session: aiohttp.ClientSession, credentials: Credentials) -> tuple[str, int]:
    """SHA-256 and size of a file as its server tells them beforehand; empty and 0: it does not.

    Hugging Face does, of every file that it keeps apart from its repository (Git LFS, Xet), where
    it sends on to its storage.

    Raises:
        DownloadRefused: A login is wanted.
        DownloadMissing: There is no such file.
        DownloadInterrupted: The server can't answer now.
        Unreached: There is no connection.
    """
    import aiohttp  # noqa: PLC0415 - see above
    from yarl import URL  # noqa: PLC0415 - aiohttp's own

    url = credentials.start
    headers = {"Accept-Encoding": "identity", **credentials.headers(url)}
    proxy = _proxy(url, credentials.environ)
    address = URL(url, encoded=url.isascii())
    try:
        asked = session.head(address, headers=headers, allow_redirects=False, proxy=proxy)
        async with asked as answer:
            if answer.status not in _MOVED:
                _check(answer, credentials, url)
            tag = answer.headers.get("X-Linked-ETag", "").strip('"')
            size = answer.headers.get("X-Linked-Size", "")
    except (aiohttp.ClientError, TimeoutError) as error:
        raise Unreached(host_in(url), _reason(error)) from error
    if not re.fullmatch(r"[0-9a-f]{64}", tag):
        return "", 0
    return tag, int(size) if size.isdigit() else 0


def host_in(url: str) -> str:
    """Host and port of an address; where a server sends on to may have a login, too."""
    return urlsplit(url).netloc.rpartition("@")[2]


def _reason(error: Exception) -> str:
    """Why there is no connection; the whole words of the error may hold the address."""
    told = (getattr(error, name, None) for name in ("certificate_error", "os_error"))
    return str(next(filter(None, told), "")) or "no answer in time"


def _next(credentials: Credentials, url: str, location: str, *, proved: bool) -> str:
    """Where a server sends on to."""
    there = urljoin(url, location)
    parts = urlsplit(there)
    shown = plain_address(credentials.url)
    if not location or parts.scheme not in {"http", "https"} or not parts.hostname:
        raise DownloadMissing(url=shown, problem="it sends on to no address")
    if url.startswith("https:") and parts.scheme == "http" and not proved:
        problem = f"it sends on to {plain_address(there)}, which is not encrypted"
        raise DownloadMissing(url=shown, problem=f"{problem}, and no `sha256` is known")
    return there


def _check(answer: aiohttp.ClientResponse, credentials: Credentials, url: str) -> None:
    """Whether an answer has the file.

    Raises:
        DownloadRefused: A login is wanted.
        DownloadMissing: There is no such file.
        DownloadInterrupted: The server can't answer now.
    """
    shown = plain_address(credentials.url)
    host = host_in(url)
    problem = f"{host} answers with HTTP status {answer.status}"
    page = answer.content_type == "text/html" and answer.status in _GOOD
    if page:  # no model is a web page: this is a login form, or an error that says 200
        problem = f"{host} answers with a web page"
    if page or answer.status in _REFUSED:
        variable, _ = credentials.token(credentials.start)
        given = bool(credentials.headers(credentials.start))
        raise DownloadRefused(url=shown, problem=problem, token=variable, given=given)
    if answer.status in _BUSY:
        after = seconds_to_wait(answer.headers.get("Retry-After", ""), datetime.now(tz=UTC))
        raise DownloadInterrupted(url=shown, problem=problem, retry_after=after)
    if answer.status not in _GOOD:
        raise DownloadMissing(url=shown, problem=problem)
    encoding = answer.headers.get("Content-Encoding", "identity")
    if encoding.lower() != "identity":
        raise DownloadMissing(url=shown, problem=f"{host} sends it as {encoding}, though not asked")


def seconds_to_wait(header: str, now: datetime) -> float:
    """What ``Retry-After`` asks for: seconds, or a date; 0 if it says nothing that can be read."""
    if header.strip().isdigit():
        return float(header)
    try:
        return max(0.0, (parsedate_to_datetime(header) - now).total_seconds())
    except (ValueError, TypeError):  # no date, or one without a zone
        return 0.0


def _proxy(url: str, environ: Mapping[str, str]) -> str | None:
    """The proxy for an address, as the machine's environment names it; small letters win."""
    named = {
        name.lower().removesuffix("_proxy"): environ.get(name.lower()) or value
        for name, value in environ.items()
        if name.lower().endswith("_proxy") and value
    }
    parts = urlsplit(url)
    if urllib.request.proxy_bypass_environment(parts.netloc, named):  # type: ignore[attr-defined]
        return None
    return named.get(parts.scheme) or named.get("all")
