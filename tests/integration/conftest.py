"""A real Valkey for the tests of this folder."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from machine_lifecycle.system.redis import connect
from tests.support.front import Front
from tests.support.redis_server import ValkeyServer
from tests.support.workers import Workers


@pytest.fixture(scope="session")
def valkey() -> Iterator[ValkeyServer]:
    server = ValkeyServer()
    server.start()
    yield server
    server.close()


@pytest_asyncio.fixture
async def redis(valkey: ValkeyServer) -> AsyncIterator[Redis]:
    client = connect(valkey.url)
    await client.flushall()
    yield client
    await client.aclose()


@pytest.fixture
def own_valkey() -> Iterator[ValkeyServer]:
    """One that the test may stop and kill."""
    server = ValkeyServer()
    server.start()
    yield server
    server.close()


@pytest_asyncio.fixture
async def admin(own_valkey: ValkeyServer) -> AsyncIterator[Redis]:
    """A client of that one."""
    client = connect(own_valkey.url)
    yield client
    await client.aclose()


@pytest.fixture
def front(own_valkey: ValkeyServer) -> Iterator[Front]:
    """An address in front of it, with faults by order."""
    found = Front(own_valkey.paths.runtime / "valkey.sock")
    yield found
    found.close()


@pytest_asyncio.fixture
async def workers(tmp_path: Path) -> AsyncIterator[Workers]:
    found = Workers(tmp_path)
    yield found
    await found.close()
