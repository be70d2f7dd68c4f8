"""Machines as child processes, and a Redis beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.support.outside import Outside, subreaper
from tests.support.redis_server import ValkeyServer


@pytest.fixture
def outside() -> Iterator[Callable[..., Outside]]:
    """Makes machines; ends and removes them afterwards."""
    made: list[Outside] = []

    def make(**settings: str) -> Outside:
        made.append(Outside(**settings))
        return made[-1]

    with subreaper():
        yield make
        for one in made:
            one.close()


@pytest.fixture(scope="session")
def hub() -> Iterator[ValkeyServer]:
    """The fleet's Redis."""
    server = ValkeyServer()
    server.start()
    yield server
    server.close()
