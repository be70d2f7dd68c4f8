"""Looks at what runs before the machine is called ready."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from machine_lifecycle.model.plan import BootPlan
from machine_lifecycle.model.ports import Check, Clock, Supervisor, WorkerLinks
from machine_lifecycle.model.processes import ProcessSpec, ProcessState, ProcessStatus, Role

__all__ = ["RunningParts"]

_CONNECT_TIMEOUT = 5.0
"""Seconds for a connection to a port that is checked."""


class RunningParts:
    """Checks services and workers; implements ``states.context.Verifier``."""

    def __init__(
        self,
        *,
        clock: Clock,
        supervisor: Supervisor,
        links: WorkerLinks,
        health_server: Callable[[], bool],
        packs: Callable[[], tuple[Check, ...]],
    ) -> None:
        self._clock = clock
        self._supervisor = supervisor
        self._links = links
        self._health_server = health_server
        self._packs = packs

    async def verify(self, plan: BootPlan) -> tuple[Check, ...]:
        """One check per service and worker that is in service, one for our own pages, and one for
        the node packs of each instance that told of them.

        A service must run, be ready, and take a connection now; a worker must have said that it is
        connected, which it says once its service and the queue answered it.
        """
        known = {status.name: status for status in self._supervisor.statuses()}
        services = [
            self._service(spec, known.get(spec.name))
            for spec in plan.processes
            if spec.role is Role.SERVICE and not _given_up(known.get(spec.name))
        ]
        checks = await asyncio.gather(*services)
        connected = self._links.connected()
        workers = [
            Check(
                name=f"worker {worker.process}",
                ok=worker.id in connected,
                seconds=0.0,
                detail="connected" if worker.id in connected else "not connected",
            )
            for worker in plan.workers
            if not any(_given_up(known.get(i)) for i in (worker.process, *worker.instances))
        ]
        pages = Check(name="health-server", ok=self._health_server(), seconds=0.0, detail="serving")
        return (pages, *checks, *workers, *self._packs())

    async def _service(self, spec: ProcessSpec, status: ProcessStatus | None) -> Check:
        name = f"service {spec.name}"
        began = self._clock.monotonic()
        if status is None or not status.ready:
            detail = status.waiting_for if status else "is not running"
            return Check(name=name, ok=False, seconds=0.0, detail=detail)
        detail = f"process {status.pid}"
        ok = True
        if spec.port:
            try:
                async with asyncio.timeout(_CONNECT_TIMEOUT):
                    _, writer = await asyncio.open_connection(spec.host, spec.port)
                writer.close()
                await writer.wait_closed()
                detail = f"{spec.host}:{spec.port} answers"
            except (OSError, TimeoutError) as error:
                ok, detail = False, f"{spec.host}:{spec.port}: {str(error) or 'no answer'}"
        return Check(name=name, ok=ok, seconds=self._clock.monotonic() - began, detail=detail)


def _given_up(status: ProcessStatus | None) -> bool:
    return status is not None and status.state is ProcessState.FATAL
