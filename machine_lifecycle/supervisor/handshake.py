"""The two HTTP questions that readiness asks, over plain asyncio streams.

A full HTTP client takes longer to import than most services here take to answer.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

__all__ = ["accepts_connection", "accepts_websocket", "answers_http", "dial_host"]

_TIMEOUT = 5.0  # a service that loads a model in its only thread answers late, not never
_LARGEST = 1 << 20
_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, section 1.3
_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 - to dial, not to bind


def dial_host(host: str) -> str:
    """Where to connect to reach a server that listens on *host*."""
    return _ANY.get(host, host)


def _url_host(host: str) -> str:
    return f"[{host}]" if ":" in host else host


async def _ask(host: str, port: int, path: str, headers: str, *, body: bool) -> tuple[bytes, bytes]:
    reader, writer = await asyncio.open_connection(host, port, limit=_LARGEST)
    try:
        head = f"GET {path} HTTP/1.1\r\nHost: {_url_host(host)}:{port}\r\n{headers}\r\n"
        writer.write(head.encode())
        answer = await reader.readuntil(b"\r\n\r\n")
        content = await _body(reader, answer) if body else b""
        if not body and b" 101 " in answer[:16]:
            writer.write(b"\x88\x80" + os.urandom(4))  # a close frame, masked, without content
    finally:
        writer.close()
        with contextlib.suppress(OSError):  # the answer is known; how the other side hangs up isn't
            await writer.wait_closed()
    return answer, content


async def _body(reader: asyncio.StreamReader, head: bytes) -> bytes:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length" and value.strip().isdigit():
            return await reader.readexactly(min(int(value), _LARGEST))
    data = b""
    while len(data) < _LARGEST and (more := await reader.read(65536)):
        data += more
    return data


def _status(head: bytes) -> int:
    words = head.split(b" ", 2)
    return int(words[1]) if len(words) > 1 and words[1].isdigit() else 0


async def _tried(attempt: Any) -> str:
    """Empty if *attempt* came out well, else what went wrong, in words."""
    try:
        async with asyncio.timeout(_TIMEOUT):
            return str(await attempt)
    except ConnectionRefusedError:
        return "connection refused"
    except TimeoutError:
        return f"no answer within {_TIMEOUT:g} s"
    except (asyncio.IncompleteReadError, ConnectionResetError):
        return "the connection was closed"
    except asyncio.LimitOverrunError:
        return "the answer is too long"
    except OSError as error:
        return (error.strerror or str(error)).lower()


def _pairs(argv: Iterable[str]) -> dict[str, str]:
    """What each ``--argument`` is followed by, or equals."""
    words = [part for word in argv for part in word.split("=", 1)]
    return {one: two for one, two in pairwise(words) if one.startswith("--")}


def _strange(body: bytes, argv: Sequence[str]) -> str:
    """What a page's own ``system.argv`` says differently than ours, in words; empty for nothing.
    What it leaves out counts for nothing: a node pack may have eaten it.
    """
    try:
        said = _pairs(str(word) for word in json.loads(body)["system"]["argv"])
    except (ValueError, LookupError, TypeError, RecursionError):
        return ""  # a page of another kind, or one that doesn't say
    for name, value in _pairs(argv).items():
        if said.get(name, value) != value:
            return f"another program answers, which was started with {name} {said[name]}"
    return ""


async def answers_http(host: str, port: int, path: str, argv: Sequence[str] = ()) -> str:
    """Whether ``GET path`` answers 200 and speaks for this process: empty, or what is wrong.

    Args:
        host: Address.
        port: Port.
        path: Of the page.
        argv: What the process was started with; a page may tell what its program was.
    """

    async def attempt() -> str:
        head, body = await _ask(
            dial_host(host), port, path, "Connection: close\r\nAccept: */*\r\n", body=True
        )
        if (status := _status(head)) != 200:  # noqa: PLR2004 - OK
            return f"status {status}"
        return _strange(body, argv)

    return await _tried(attempt())


async def accepts_websocket(host: str, port: int, path: str) -> str:
    """Whether a WebSocket handshake is accepted: empty, or what is wrong."""

    async def attempt() -> str:
        key = base64.b64encode(os.urandom(16))
        headers = (
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Key: {key.decode()}\r\n"
        )
        head, _ = await _ask(dial_host(host), port, path, headers, body=False)
        proof = base64.b64encode(hashlib.sha1(key + _GUID.encode()).digest())  # noqa: S324 - RFC 6455
        if (status := _status(head)) != 101:  # noqa: PLR2004 - Switching Protocols
            return f"status {status}"
        return "" if proof in head else "the handshake's proof is wrong"

    return await _tried(attempt())


async def accepts_connection(host: str, port: int) -> str:
    """Whether the port takes a connection: empty, or what is wrong."""

    async def attempt() -> str:
        _, writer = await asyncio.open_connection(dial_host(host), port)
        writer.close()
        await writer.wait_closed()
        return ""

    return await _tried(attempt())
