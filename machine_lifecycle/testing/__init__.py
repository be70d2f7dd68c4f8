"""Checks for people who write services, installers, connectors, observers and gates.

Each check runs the thing for real, in a folder of its own, and raises ``RulesBroken`` with every
rule that does not hold. They need no test framework::

    from machine_lifecycle.testing import check_service

    async def test_my_service(tmp_path):
        await check_service(SERVICE, folder=tmp_path, payload={"text": "hello"})

Our own services are held to them by our own tests.
"""

from __future__ import annotations

from machine_lifecycle.testing.connectors import check_connector
from machine_lifecycle.testing.hooks import check_gate, check_observer
from machine_lifecycle.testing.installers import check_installer
from machine_lifecycle.testing.rules import RulesBroken
from machine_lifecycle.testing.services import check_service, running

__all__ = [
    "RulesBroken",
    "check_connector",
    "check_gate",
    "check_installer",
    "check_observer",
    "check_service",
    "running",
]
