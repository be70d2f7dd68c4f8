"""Gathers everything that is shown of a machine into one value."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from importlib.metadata import version

import attrs

from machine_lifecycle.lifecycle.core import Lifecycle
from machine_lifecycle.lifecycle.events import Event, PacksTimed, StepFinished, StepProgressed
from machine_lifecycle.model.hardware import Hardware
from machine_lifecycle.model.packs import Loaded, PackTimes
from machine_lifecycle.model.ports import Clock, Supervisor
from machine_lifecycle.model.processes import ProcessState, ProcessStatus, Role
from machine_lifecycle.model.status import Condition, StatusReport, WorkerStatus
from machine_lifecycle.states.names import MachineState
from machine_lifecycle.states.table import TABLE

__all__ = ["HEALTH_SERVER", "Reporter"]

HEALTH_SERVER = "health-server"
"""The name under which the orchestrator lists itself: it serves the health pages."""

_STORY_SHOWN = 40
"""Lines of the story that a report shows: the last ones."""


@attrs.define(kw_only=True)
class Reporter:
    """Makes a ``StatusReport`` from memory; never waits.

    Attributes:
        workers: The workers, as they say themselves.
        packs: The node packs of each instance.
        queue: Whether the queue does what it is asked, where it is, and why it does not.
        health: URL and port of the health pages.
        disk: Bytes that are free on the workspace's disk, as of the last look.
    """

    machine_id: str
    lifecycle: Lifecycle
    supervisor: Supervisor
    clock: Clock
    workers: Callable[[], tuple[WorkerStatus, ...]]
    packs: Callable[[], tuple[Loaded, ...]]
    queue: Callable[[], tuple[bool, str, str]]
    health: Callable[[], tuple[str, int]]
    disk: Callable[[], int]
    opened: float = attrs.field(init=False)
    version: str = attrs.field(init=False)
    """Of this package; read once, as it is read from a file."""
    running: dict[tuple[str, int, str], tuple[str, float]] = attrs.field(init=False, factory=dict)
    pack_times: tuple[PackTimes, ...] = attrs.field(init=False, default=())
    steps: dict[tuple[str, int], list[tuple[str, float]]] = attrs.field(init=False, factory=dict)

    def __attrs_post_init__(self) -> None:
        self.opened = self.clock.monotonic()
        self.version = version("machine-lifecycle")

    def hear(self, event: Event) -> None:
        """Remember which steps run and since when, how long those took that have ended, and what
        packs cost.
        """
        match event:
            case StepProgressed(state=state, attempt=attempt, step=step, detail=detail):
                _, since = self.running.get((state.value, attempt, step), ("", event.at))
                self.running[state.value, attempt, step] = (detail, since)
            case StepFinished(state=state, attempt=attempt, step=step):
                self.running.pop((state.value, attempt, step), None)
                if not event.skipped:
                    key = (state.value, attempt)
                    self.steps.setdefault(key, []).append((step, event.seconds))
            case PacksTimed(times=times):
                self.pack_times = times

    def report(self) -> StatusReport:
        """How the machine is now."""
        life, record = self.lifecycle, self.lifecycle.record
        offset = self.clock.wall() - self.clock.monotonic()
        spec = TABLE.spec(life.state)
        connected, where, trouble = self.queue()
        url, _ = self.health()
        timings = tuple(
            attrs.evolve(t, steps=tuple(self.steps.get((t.state, t.attempt), ())))
            for t in record.timings(TABLE, offset=offset)
        )
        return StatusReport(
            machine_id=self.machine_id,
            version=self.version,
            state=life.state.value,
            phase=spec.phase.value,
            since=record.entered + offset,
            uptime=self.clock.monotonic() - self.opened,
            attempt=life.attempt,
            pid=os.getpid(),
            conditions=tuple(
                Condition(kind=kind, reason=reason, since=since + offset)
                for kind, (reason, since) in record.conditions.items()
            ),
            allowed=tuple(trigger.value for trigger in life.allowed()),
            waiting=self.waiting(),
            hardware=record.plan.hardware if record.plan else Hardware(),
            capabilities=record.plan.capabilities if record.plan else (),
            processes=(self._ourselves(offset), *self.supervisor.statuses()),
            workers=self.workers(),
            loaded=self.packs(),
            pack_times=self.pack_times,
            bundle=record.plan.bundle if record.plan else None,
            checks=record.checks,
            timings=timings,
            failure=record.failure.to_wire() if record.failure else None,
            later_failures=tuple(error.to_wire() for error in record.later_failures),
            story=tuple(
                f"{_clock_time(entry.at + offset)} {entry}"
                for entry in list(record.story)[-_STORY_SHOWN:]
            ),
            redis_connected=connected,
            redis_where=where,
            redis_trouble=trouble,
            health_url=url,
            jobs_running=len(record.jobs),
            jobs_completed=record.outcomes.get("completed", 0),
            jobs_failed=record.outcomes.get("failed", 0),
            disk_free=self.disk(),
        )

    def waiting(self) -> tuple[str, ...]:
        """What is waited for now, each with its age: processes, and steps that have not ended."""
        now, life = self.clock.wall(), self.lifecycle
        statuses = self.supervisor.statuses()
        found = {s.name: (s.waiting_for, s.since) for s in statuses if s.waiting_for}
        known = {status.name for status in statuses}
        for (state, attempt, step), (detail, since) in self.running.items():
            # A process that is waited for is a step of the state too; its own words are newer.
            if (state, attempt) == (life.state.value, life.attempt) and step not in known:
                found[step] = (detail, since)
        pause = life.record.retry_at - self.clock.monotonic()
        if life.state is MachineState.FAILED and pause > 0:
            entered = life.record.entered + now - self.clock.monotonic()
            found["next attempt"] = (f"in {pause:.1f} s", entered)
        return tuple(
            f"{name}: {what} ({now - since:.1f} s)" if what else f"{name} ({now - since:.1f} s)"
            for name, (what, since) in found.items()
        )

    def _ourselves(self, offset: float) -> ProcessStatus:
        _, port = self.health()
        return ProcessStatus(
            name=HEALTH_SERVER,
            role=Role.SUPPORT,
            state=ProcessState.RUNNING if port else ProcessState.STARTING,
            ready=bool(port),
            pid=os.getpid(),
            port=port or None,
            since=self.opened + offset,
            started=self.opened + offset,
            ours=True,
        )


def _clock_time(wall: float) -> str:
    return f"{time.strftime('%H:%M:%S', time.localtime(wall))}.{int(wall % 1 * 1000):03d}"
