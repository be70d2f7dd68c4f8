"""The services that one worker drives, each through its connector."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any

from machine_lifecycle.errors import LifecycleError
from machine_lifecycle.jobs.errors import ServiceDown
from machine_lifecycle.model.ports import Connector

__all__ = ["WorkerServices"]

_PROBE_LIMIT = 10.0


class WorkerServices:
    """Enters each connector once, and says which services can take jobs."""

    def __init__(self, connectors: Mapping[str, Connector], asks: Mapping[str, str]) -> None:
        """Make it; nothing is opened until ``connect``.

        Args:
            connectors: By name of the service.
            asks: What jobs ask for, and the service that does it.
        """
        self._connectors = dict(connectors)
        self._asks = dict(asks)
        self._entered: dict[str, Connector] = {}
        self._stack = AsyncExitStack()

    async def connect(self) -> dict[str, Mapping[str, Any]]:
        """What each service that answers can do, by its name.

        Raises:
            ServiceDown: None answers.
        """
        proved: dict[str, Mapping[str, Any]] = {}
        detail, down = "", ""
        for service in self._connectors:
            try:
                connector = await self._enter(service)
                async with asyncio.timeout(_PROBE_LIMIT):
                    probe = await connector.probe()
                    if probe.healthy:
                        proved[service] = await connector.capabilities()
                        continue
                detail, down = probe.detail, service
            except (LifecycleError, OSError, TimeoutError) as error:
                detail, down = str(getattr(error, "summary", error)), service
        if not proved:
            raise ServiceDown(service=down, detail=detail)
        return proved

    async def down(self, service: str) -> str:
        """Why a service can't take jobs; empty if it can."""
        try:
            async with asyncio.timeout(_PROBE_LIMIT):
                probe = await self._connectors[service].probe()
        except (LifecycleError, OSError, TimeoutError) as error:
            return str(getattr(error, "summary", error)) or "it does not answer"
        return "" if probe.healthy else probe.detail or "it does not answer"

    def route(self, asks: str) -> tuple[str, Connector]:
        """The service that does what a job asks for, and its connector."""
        service = self._asks[asks]
        return service, self._connectors[service]

    async def leave(self) -> None:
        """Leave all connectors."""
        await self._stack.aclose()

    async def _enter(self, service: str) -> Connector:
        if service not in self._entered:
            async with asyncio.timeout(_PROBE_LIMIT):
                connector = await self._stack.enter_async_context(self._connectors[service])
            self._entered[service] = self._connectors[service] = connector
        return self._connectors[service]
