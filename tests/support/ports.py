"""Ports for a test, of which no other test takes one at the same time."""

from __future__ import annotations

import os

from machine_lifecycle.system import network

__all__ = ["free_port"]

_BLOCK = 256
"""Ports in a row that belong to one process of tests; more than any test asks for at once."""
_SELF = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))  # noqa: TID251 - so
_ALL = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))  # noqa: TID251 - pytest-xdist tells it


def free_port(count: int = 1) -> int:
    """The first of *count* free ports in a row.

    What is free may be taken before the test binds it, if another process of tests finds it too:
    each has blocks of its own.
    """
    return network.free_port(count=count, is_free=_is_ours_and_free)


def _is_ours_and_free(host: str, port: int) -> bool:
    return port // _BLOCK % _ALL == _SELF and network.port_is_free(host, port)
