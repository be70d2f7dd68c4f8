"""A page that answers is not enough: it must be our process's."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
import pytest_asyncio

from machine_lifecycle.supervisor.handshake import answers_http

ARGV = ("python", "main.py", "--port", "8188", "--output-directory", "/ours", "--cpu", "--lowvram")
Serve = Callable[[Any], Awaitable[int]]


@pytest_asyncio.fixture
async def serve() -> AsyncIterator[Serve]:
    """Serves one JSON value, or bytes as they are, as every page; the port."""
    async with AsyncExitStack() as stack:

        async def start(value: Any) -> int:
            body = value if isinstance(value, bytes) else json.dumps(value).encode()

            async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                await reader.readuntil(b"\r\n\r\n")
                head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n"
                writer.write(head.encode() + body)
                await writer.drain()
                writer.close()

            server = await stack.enter_async_context(
                await asyncio.start_server(answer, "127.0.0.1", 0)
            )
            return int(server.sockets[0].getsockname()[1])

        yield start


async def test_a_page_that_is_nested_too_deep_says_nothing(serve: Serve) -> None:
    port = await serve(b"[" * 100_000)
    assert await answers_http("127.0.0.1", port, "/system_stats", ARGV) == ""


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (["main.py", *ARGV[2:]], ""),
        (["main.py", "--port=8188", "--output-directory=/ours", "--cpu"], ""),
        (["main.py"], ""),
        (["main.py", "--port", "9000"], "--port 9000"),
        (["main.py", "--port", "8188", "--output-directory", "/theirs"], "/theirs"),
    ],
    ids=["ours", "written with =", "says nothing", "another port", "another folder"],
)
async def test_a_page_that_tells_of_another_start_is_not_ours(
    serve: Serve, said: list[str], words: str
) -> None:
    port = await serve({"system": {"argv": said}})
    problem = await answers_http("127.0.0.1", port, "/system_stats", ARGV)
    assert (words in problem) if words else (problem == "")


async def test_a_page_of_another_kind_counts(serve: Serve) -> None:
    port = await serve(["ok"])
    assert await answers_http("127.0.0.1", port, "/", ARGV) == ""
