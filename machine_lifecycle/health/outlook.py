"""A machine whose processes another supervisor runs, seen from outside, for the health pages.

Nobody tells us what happens there, so everything is looked at: services through their own probes,
workers through their signs of life in Redis. A process of which only its supervisor knows more
(its pid, its restarts) is shown without that.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import attrs

from machine_lifecycle.health.errors import NotOurProcess
from machine_lifecycle.model.figures import Figures
from machine_lifecycle.model.processes import (
    HttpReady,
    ProcessState,
    ProcessStatus,
    Readiness,
    Role,
    WebSocketReady,
)
from machine_lifecycle.model.status import Condition, ConditionKind, StatusReport, WorkerStatus
from machine_lifecycle.plan.outline import Outline, OutlineProcess
from machine_lifecycle.states.names import MachineState
from machine_lifecycle.states.table import TABLE
from machine_lifecycle.supervisor.handshake import (
    accepts_connection,
    accepts_websocket,
    answers_http,
)
from machine_lifecycle.supervisor.logs import tail

__all__ = ["INTERVAL", "Outlook", "WorkerFacts"]

INTERVAL = 5.0
"""Seconds between two looks: probes of platforms come every ten and more."""

WorkerFacts = Callable[[tuple[str, ...]], Awaitable[Mapping[str, Mapping[str, Any]] | None]]
"""What Redis says of workers, by id, of those that live; ``None`` while Redis does not answer."""


@attrs.define(kw_only=True, eq=False)
class Outlook:
    """The machine of a manifest; implements ``health.source.HealthSource``.

    Attributes:
        logs: Folder of the processes' logs.
        facts: Asks Redis of the workers.
        where: Where Redis is, without its password.
        changed: Called after a look that found something else than the one before.
    """

    outline: Outline
    logs: Path
    facts: WorkerFacts
    where: str
    url: str = ""
    changed: Callable[[], None] = lambda: None
    _opened: float = attrs.field(init=False, factory=time.time)
    _since: dict[str, float] = attrs.field(init=False, factory=dict)
    _problems: dict[str, str] = attrs.field(init=False, factory=dict)
    _known: Mapping[str, Mapping[str, Any]] | None = attrs.field(init=False, default=None)
    _was_ready: bool = attrs.field(init=False, default=False)

    def __attrs_post_init__(self) -> None:
        self._problems = {p.name: "not looked at yet" for p in self.outline.processes}

    async def watch(self) -> None:
        """Look, again and again, until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(INTERVAL)

    async def look(self) -> None:
        """Ask every service and Redis once, all at the same time."""
        services = [p for p in self.outline.processes if p.role is not Role.WORKER]
        ids = tuple(worker.id for worker in self.outline.workers)
        known, problems = await asyncio.gather(
            self.facts(ids), asyncio.gather(*(_problem(process) for process in services))
        )
        found = {p.name: problem for p, problem in zip(services, problems, strict=True)}
        for worker in self.outline.workers:
            if known is None:
                found[worker.process] = "Redis does not answer"
            else:
                found[worker.process] = "" if worker.id in known else "no sign of life in Redis"
        if found == self._problems and known == self._known:
            return
        now = time.time()
        self._since |= {
            name: now for name, problem in found.items() if problem != self._problems.get(name)
        }
        self._problems, self._known = found, known
        self._was_ready = self._was_ready or not any(found.values())
        self.changed()

    # What the pages ask

    def report(self) -> StatusReport:
        """How the machine was at the last look."""
        state = self._state()
        since = max(self._since.values(), default=self._opened)
        out = [f"{name}: {problem}" for name, problem in self._problems.items() if problem]
        degraded = Condition(kind=ConditionKind.DEGRADED, reason="; ".join(out), since=since)
        return StatusReport(
            machine_id=self.outline.machine_id,
            version=version("machine-lifecycle"),
            state=state.value,
            phase=TABLE.spec(state).phase.value,
            since=since,
            uptime=time.time() - self._opened,
            attempt=1,
            pid=os.getpid(),
            conditions=(degraded,) if out and self._was_ready else (),
            waiting=() if self._was_ready else tuple(out),
            hardware=self.outline.hardware,
            capabilities=tuple(
                dict.fromkeys(one for w in self.outline.workers for one in w.capabilities)
            ),
            processes=tuple(self._process(process) for process in self.outline.processes),
            workers=tuple(self._workers()),
            redis_connected=self._known is not None,
            redis_where=self.where,
            health_url=self.url,
            jobs_running=sum(1 for worker in self._workers() if worker.current_job_id),
        )

    def _state(self) -> MachineState:
        """Where in its life it is, as far as can be seen from outside."""
        if self._was_ready:
            busy = any(worker.current_job_id for worker in self._workers())
            return MachineState.PROCESSING if busy else MachineState.READY
        waits_for = {p.role for p in self.outline.processes if self._problems[p.name]}
        if waits_for == {Role.WORKER}:
            return MachineState.WORKERS_STARTING
        return MachineState.SERVICES_STARTING

    def _process(self, process: OutlineProcess) -> ProcessStatus:
        problem = self._problems[process.name]
        return ProcessStatus(
            name=process.name,
            role=process.role,
            state=ProcessState.STARTING if problem else ProcessState.RUNNING,
            ready=not problem,
            port=process.port,
            gpu=process.gpu,
            essential=process.essential,
            since=self._since.get(process.name, self._opened),
            waiting_for=problem,
            log=str(self._log(process.name)),
        )

    def _workers(self) -> list[WorkerStatus]:
        found = []
        for worker in self.outline.workers:
            facts = (self._known or {}).get(worker.id)
            found.append(
                WorkerStatus(
                    id=worker.id,
                    process=worker.process,
                    type=worker.type,
                    status=str(facts.get("status", "idle")) if facts is not None else "gone",
                    connected=facts is not None,
                    current_job_id=str(facts.get("current_job_id", "")) if facts else "",
                    capabilities=worker.capabilities,
                    gpu=worker.gpu,
                )
            )
        return found

    async def figures(self) -> Mapping[int, Figures]:
        """Nothing: whose processes they are is known to their supervisor alone."""
        return {}

    async def tail(self, name: str, lines: int) -> list[str]:
        """The last *lines* lines of a process's log, oldest first."""
        return list(await asyncio.to_thread(tail, self._log(name), lines))

    def _log(self, name: str) -> Path:
        written = next((p.log for p in self.outline.processes if p.name == name), None)
        return written or self.logs / f"{name}.log"

    async def restart_process(self, name: str) -> None:
        """Refuse.

        Raises:
            NotOurProcess: Always: whoever started it can restart it.
        """
        raise NotOurProcess(name=name)

    async def restart_machine(self) -> None:
        """Refuse, likewise."""
        raise NotOurProcess(name="the machine")

    async def publish_now(self) -> None:
        """Look now: there is no status in Redis that is ours to publish."""
        await self.look()


async def _problem(process: OutlineProcess) -> str:
    """Why a service can't serve, in words; empty if it can."""
    for probe in process.probes:
        if problem := await _ask(process, probe):
            return problem
    return ""


async def _ask(process: OutlineProcess, probe: Readiness) -> str:
    port = process.port or 0
    match probe:
        case HttpReady(path=path):
            return await answers_http(process.host, port, path)
        case WebSocketReady(path=path):
            return await accepts_websocket(process.host, port, path)
    return await accepts_connection(process.host, port)
