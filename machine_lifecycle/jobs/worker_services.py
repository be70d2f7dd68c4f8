"""The services that one worker drives, each through its connector."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any

import attrs

from machine_lifecycle.jobs.brevity import brief, words_of
from machine_lifecycle.jobs.claims import Claimed
from machine_lifecycle.jobs.errors import ServiceDown
from machine_lifecycle.jobs.warming import Warmer
from machine_lifecycle.model.packs import Loaded, PackReader, Run
from machine_lifecycle.model.ports import Connector

__all__ = ["WorkerServices"]

_PROBE_LIMIT = 10.0


class WorkerServices:
    """Enters each connector once, and says which services can take jobs."""

    def __init__(
        self,
        connectors: Mapping[str, Connector],
        asks: Mapping[str, str],
        *,
        concurrency: int = 0,
        warmer: Warmer | None = None,
    ) -> None:
        """Make it; nothing is opened until ``connect``.

        Args:
            connectors: By name of the service.
            asks: What jobs ask for, and the service that does it.
            concurrency: Jobs that each service does at a time; 0 for its connector's
                ``max_concurrent_jobs``, or 1 where it names none.
            warmer: Runs what services run before they take jobs; ``None``: nothing.
        """
        self.limits: dict[str, int] = {
            service: concurrency or int(getattr(connector, "max_concurrent_jobs", 1))
            for service, connector in connectors.items()
        }
        self.most: int = max(self.limits.values())
        """Jobs that all of them do at a time."""
        self.warmer: Warmer = warmer or Warmer({}, None)
        self._connectors = dict(connectors)
        self._asks = dict(asks)
        self._only = next(iter(connectors)) if len(connectors) == 1 else ""
        self.loaded: tuple[Loaded, ...] = ()
        """Node packs of the services that answered, as of the last ``connect``."""
        self._runs: tuple[Run, ...] = ()
        self._entered: dict[str, Connector] = {}
        self._stack = AsyncExitStack()

    def began(self, runs: Sequence[Mapping[str, Any]]) -> bool:
        """The services' processes are these; whether they are others than before."""
        before, self._runs = self._runs, tuple(Run.from_wire(run) for run in runs)
        if self._runs != before:
            self.warmer.abandon()
        return self._runs != before

    async def connect(self) -> dict[str, Mapping[str, Any]]:
        """What each service that answers can do, by its name.

        Raises:
            ServiceDown: None answers.
            WarmUpFailed: One that answers could not be warmed up: none takes jobs until all are.
        """
        while True:
            runs = self._runs
            proved = await self._look()
            # One after the other: services of one worker share its GPU.
            for service in proved:
                await self.warmer.warm(service, self._connectors[service], self._of(service, runs))
            if runs == self._runs:  # else one was started anew meanwhile
                return proved

    def _of(self, service: str, runs: Sequence[Run]) -> tuple[Run, ...]:
        """The runs of one service; of a worker that drives one, all."""
        port = getattr(getattr(self._connectors[service], "endpoint", None), "port", None)
        return tuple(run for run in runs if port is None or run.port == port)

    async def _look(self) -> dict[str, Mapping[str, Any]]:
        proved: dict[str, Mapping[str, Any]] = {}
        loaded: list[Loaded] = []
        detail, down = "", ""
        for service in self._connectors:
            try:
                connector = await self._enter(service)
                async with asyncio.timeout(_PROBE_LIMIT):
                    probe = await connector.probe()
                    if probe.healthy:
                        facts = _mapping(await connector.capabilities())
                        if isinstance(connector, PackReader):
                            found = await connector.loaded(self._runs, facts)
                            loaded.append(attrs.evolve(found, instance=found.instance or service))
                            facts = {**facts, "node_packs": list(found.names)}
                        proved[service] = facts
                        continue
                detail, down = probe.detail, service
            except Exception as error:  # noqa: BLE001 - a connector may be a stranger's
                detail, down = words_of(error), service
        if not proved:
            raise ServiceDown(service=down, detail=brief(detail))
        self.loaded = tuple(loaded)
        return proved

    async def down(self, service: str) -> str:
        """Why a service can't take jobs; empty if it can."""
        try:
            async with asyncio.timeout(_PROBE_LIMIT):
                probe = await self._connectors[service].probe()
            return "" if probe.healthy else brief(probe.detail) or "it does not answer"
        except Exception as error:  # noqa: BLE001 - likewise
            return words_of(error) or "it does not answer"

    def of(self, claimed: Claimed) -> str:
        """The service that does a job. Where there is one, the job is not even read; one that asks
        for another than it was queued for, as somebody changed it meanwhile, goes to the first.
        """
        return self._only or self._asks.get(claimed.service_required) or next(iter(self.limits))

    def connector(self, service: str) -> Connector:
        """Who drives a service."""
        return self._connectors[service]

    def room(self, running: Mapping[str, int]) -> tuple[frozenset[str], int]:
        """The services that can take a job now, and how many jobs all of them can take.

        A worker does as many jobs at a time as its most patient service; so that services of a
        GPU, each of which takes one, do not run at once.

        Args:
            running: How many jobs run on each.
        """
        free = {
            service: room
            for service, limit in self.limits.items()
            if (room := limit - running.get(service, 0)) > 0
        }
        left = self.most - sum(running.values())
        return frozenset(free), min([left, *free.values()]) if free else 0

    def asked(self, services: frozenset[str]) -> tuple[str, ...]:
        """What jobs ask for that these services do."""
        return tuple(asks for asks, service in self._asks.items() if service in services)

    async def leave(self) -> None:
        """Leave all connectors."""
        await self._stack.aclose()

    async def _enter(self, service: str) -> Connector:
        if service not in self._entered:
            async with asyncio.timeout(_PROBE_LIMIT):
                connector = await self._stack.enter_async_context(self._connectors[service])
            self._entered[service] = self._connectors[service] = connector
        return self._connectors[service]


def _mapping(facts: object) -> Mapping[str, Any]:
    if not isinstance(facts, Mapping):
        raise TypeError(f"capabilities are {type(facts).__name__}, no mapping")
    return facts
