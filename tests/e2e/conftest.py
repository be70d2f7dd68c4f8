"""Machines as child processes, and a Redis beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.support.outside import Outside, machines
from tests.support.redis_server import ValkeyServer


@pytest.fixture
def outside() -> Iterator[Callable[..., Outside]]:
    with machines() as make:
        yield make


@pytest.fixture(scope="session")
def hub() -> Iterator[ValkeyServer]:
    """The fleet's Redis."""
    server = ValkeyServer()
    server.start()
    yield server
    server.close()
