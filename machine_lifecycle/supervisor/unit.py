"""One supervised process: its state, its life from spawn to end, and its restarts.

States and what leads from one to the next::

    WAITING ──needs ready──> STARTING ──ready──> RUNNING
                               ^  │ ended            │ ended
                               │  v                  v
                             BACKOFF <──── policy ───┤──> EXITED (well, and not restarted)
                                                     └──> FATAL (given up)
    any ──stop──> STOPPING ──tree is gone──> STOPPED
"""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from pathlib import Path
from typing import Protocol

from machine_lifecycle.errors import LifecycleError, RemoteError
from machine_lifecycle.model.gpu_signs import sign_in
from machine_lifecycle.model.processes import (
    ExitCause,
    LinkReady,
    ProcessSpec,
    ProcessState,
    ProcessStatus,
)
from machine_lifecycle.supervisor import logs, spawn
from machine_lifecycle.supervisor.child import KILLED_WITHIN, Child, Ended
from machine_lifecycle.supervisor.errors import ProcessFailed
from machine_lifecycle.supervisor.household import Household
from machine_lifecycle.supervisor.journal import Entry
from machine_lifecycle.supervisor.kill_cause import OomCount
from machine_lifecycle.supervisor.life import Life, OurEnd
from machine_lifecycle.supervisor.startup import Startup
from machine_lifecycle.supervisor.tree import belongs

__all__ = ["Audience", "Unit", "failure"]

_TAIL = 20
"""Last lines of its log that tell of an end."""
_STACK = 300
"""Lines of a stack of calls, and of what comes before it."""
_log = logging.getLogger(__name__)


class Audience(Protocol):
    """Who hears of a unit."""

    def changed(self, unit: Unit) -> None:
        """Its state or its readiness is another."""

    def given_up(self, unit: Unit, error: LifecycleError) -> None:
        """It won't be started again."""


def _last_lines(unit: Unit, ended: Ended | None = None) -> tuple[str, ...]:
    """The last lines that its last run wrote; where it aborted, with what it said of the GPU first:
    PyTorch's own stack of calls, longer than what is kept, comes after that. None where the log
    can't be read: that must not hide why it is asked for.
    """
    try:
        told = logs.tail(unit.log, _TAIL, unit.startup.log_offset)
    except OSError:
        return ()
    if ended is None or ended.signal != "SIGABRT" or sign_in(told):
        return told
    lines = logs.tail(unit.log, _STACK, unit.startup.log_offset)
    sign = next((line for line in lines if sign_in([line])), None)
    return told if sign is None else (sign, *told[1 - _TAIL :])


def _cause(unit: Unit, ended: Ended, reason: str, oom: OomCount) -> ExitCause:
    asked = unit.state is ProcessState.STOPPING  # then its last words explain nothing
    if ended.signal == "SIGKILL" and not asked and not reason:
        reason = ended.words + oom.words()
    return ExitCause(
        code=ended.code,
        signal=ended.signal,
        reason=reason or ended.words,
        at=time.time(),
        tail=() if asked else _last_lines(unit, ended),
    )


def failure(unit: Unit, reason: str) -> LifecycleError:
    """The error of a unit that won't get ready: the one that it left word of, or else that it
    failed, with the last lines of its log.
    """
    if said := unit.startup.said():
        return RemoteError(wire=said, where=unit.spec.name)
    return ProcessFailed(
        process=unit.spec.name,
        reason=reason,
        restarts=unit.restarts,
        log=str(unit.log),
        where=unit.spec.name,
        context=unit.last_exit.tail if unit.last_exit else _last_lines(unit),
    )


def _status(unit: Unit) -> ProcessStatus:
    """All that is known of a unit, for readers."""
    return ProcessStatus(
        name=unit.spec.name,
        role=unit.spec.role,
        state=unit.state,
        ready=unit.ready,
        pid=unit.child.pid if unit.child else None,
        port=unit.spec.port,
        gpu=unit.spec.gpu,
        essential=unit.spec.essential,
        since=unit.since,
        started=unit.started if unit.child else None,
        restarts=unit.restarts,
        waiting_for="" if unit.ready else unit.startup.waiting(),
        last_exit=unit.last_exit,
        adopted=unit.child is not None and unit.child.adopted,
        log=str(unit.log),
    )


def _entry(unit: Unit) -> Entry:
    """What the journal holds of a unit."""
    return Entry(
        name=unit.spec.name,
        token=unit.token,
        digest=unit.digest,
        log=str(unit.log),
        log_offset=unit.startup.log_offset,
        restarts=unit.restarts,
        started=unit.started or 0.0,
        notified=unit.startup.notified.is_set(),
    )


class Unit:
    """One process that is kept running. Used on the event loop only.

    Attributes:
        spec: What is kept running.
        state: How it does.
        ready: Whether all its readiness conditions hold.
        error: Why it was given up.
        child: The process, while there is one.
        started: When it was spawned, wall-clock seconds.
        digest: Of the spec and the secrets it was spawned with.
        ended_for: Why we are ending it, while we are.
    """

    def __init__(self, spec: ProcessSpec, token: str, home: Household, audience: Audience) -> None:
        self.spec = spec
        self.token: str = token
        self.digest: str = ""
        self.log: Path = spawn.log_path(spec, home.paths.logs)
        self.state: ProcessState = ProcessState.WAITING
        self.ready: bool = False
        self.error: LifecycleError | None = None
        self.child: Child | None = None
        self.since: float = time.time()
        self.restarts: int = 0
        self.last_exit: ExitCause | None = None
        self._home = home
        self._audience = audience
        self._task: asyncio.Task[None] | None = None
        self.started: float | None = None
        self._ending: asyncio.Task[tuple[int, ...]] | None = None
        self.ended_for: OurEnd | None = None
        self.startup: Startup = Startup(spec, self.log, home, self._record, self._holds)

    def _holds(self, pid: int) -> bool:
        return self.child is not None and belongs(pid, self.child.pid, self.token)

    # What others ask and tell

    @property
    def wanted(self) -> bool:
        """Whether it runs, or will without anybody asking."""
        return self._task is not None and not self._task.done()

    def runs_as(self, spec: ProcessSpec) -> bool:
        """Whether it was started just as this says, with the secrets as they are now."""
        entry = self._home.entries.get(self.spec.name)
        was = (entry and entry.digest) or spawn.digest(self.spec, self._home.secrets)
        return was == spawn.digest(spec, self._home.secrets)

    def status(self) -> ProcessStatus:
        """All that is known, for readers."""
        return _status(self)

    def needs_changed(self, *, ready: bool) -> None:
        """See ``Startup``."""
        self.startup.needs_changed(ready=ready)

    def link(self, *, ready: bool) -> None:
        """It says over its link that it is connected, or is no longer."""
        self.startup.link(ready=ready)
        if self.state is ProcessState.RUNNING and LinkReady() in self.spec.readiness:
            self.become(ProcessState.RUNNING, ready=ready)

    def become(self, state: ProcessState, *, ready: bool = False) -> None:
        """Enter a state, and tell whoever wants to know."""
        if (state, ready) != (self.state, self.ready):
            if state is not self.state:
                self.since = time.time()
            self.state, self.ready = state, ready
            self._audience.changed(self)

    # Start and stop

    def may_spawn(self) -> bool:
        """Whether nothing has to be waited for."""
        return self.spec.standby or not self.spec.needs or self.startup.needs.is_set()

    def spawn(self) -> None:
        """Start the process.

        Raises:
            LifecycleError: It can't be started.
        """
        spec = self.spec
        spawn.check_port(spec)
        env = spawn.environment(
            spec.name, spec.command, self._home.base_env, self._home.secrets, self.token
        )
        env |= self.startup.begin()
        self.child = self._home.watch(spawn.spawn(spec, self.log, env), self.token)
        self.started = time.time()
        self.digest = spawn.digest(spec, self._home.secrets)
        self._record()
        self.become(ProcessState.STARTING)

    def adopt(self, entry: Entry) -> None:
        """Take over the process of an earlier orchestrator.

        Raises:
            ProcessLookupError: It has ended.
        """
        self.child = self._home.adopt(entry)
        self.token, self.digest = entry.token, entry.digest
        self.restarts, self.started = entry.restarts, entry.started
        self.startup.resume(entry)
        self._record()
        self.become(ProcessState.STARTING)

    def rest(self) -> None:
        """It ended as it should."""
        self._home.forget(self.spec.name)
        self.startup.hang_up()
        self.become(ProcessState.EXITED)

    def refuse(self, error: LifecycleError) -> None:
        """It can't be started, and whoever asked for it is told directly."""
        self.error = error
        self._home.forget(self.spec.name)
        self.startup.hang_up()
        self.become(ProcessState.FATAL)

    def begin(self) -> None:
        """Keep it running from now on."""
        self._task = asyncio.get_running_loop().create_task(Life(self).run(), name=self.spec.name)
        self._task.add_done_callback(self._life_ended)

    def _life_ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("the supervision of %s broke", self.spec.name, exc_info=error)
            self.give_up(f"its supervision broke: {error!r}")

    def end_for(self, why: OurEnd) -> None:
        """End its process for a reason of ours; what follows is its policy's business."""
        if (child := self.child) is None or not self.wanted or self.ended_for is not None:
            return
        self.ended_for = why
        number = signal.Signals[self.spec.stop.signal]
        self._ending = asyncio.get_running_loop().create_task(
            child.end(number, self.spec.stop.grace), name=f"end {self.spec.name}"
        )

    async def stop(self, grace: float, killed_within: float = KILLED_WITHIN) -> tuple[int, ...]:
        """End it, not to start again; who could not be ended. Seconds, as in ``Child.end``."""
        task, child = self._task, self.child
        number = signal.Signals[self.spec.stop.signal]
        if task is not None and not task.done():
            task.cancel()
        if child is not None:  # asked at once: its life, though not over, won't start it again
            self.become(ProcessState.STOPPING)
            child.ask(number)
        if task is not None and not task.done():
            await asyncio.wait([task])
        left = await child.end(number, grace, killed_within) if child is not None else ()
        if child is not None and self.child is child and not self.wanted:
            self.note(child.ended.result() if child.ended.done() else Ended(), "")
        if self.wanted:
            return left  # somebody started it again meanwhile
        if self.state not in (ProcessState.FATAL, ProcessState.EXITED):
            self.become(ProcessState.STOPPED)
        self.startup.hang_up()
        if not left:
            self._home.forget(self.spec.name)
        return left

    def kill(self) -> None:
        """End its tree at once."""
        if self._task is not None:
            self._task.cancel()
        child = self.child
        if child is not None:
            child.kill()
            self.become(ProcessState.STOPPING)
            child.ended.add_done_callback(lambda ended: self._killed(child, ended.result()))

    def _killed(self, child: Child, ended: Ended) -> None:
        if self.child is child:
            self.note(ended, "")
            self._home.forget(self.spec.name)
            self.become(ProcessState.STOPPED)

    # Its life, as ``life`` tells it

    def give_up(self, reason: str, error: LifecycleError | None = None) -> None:
        """Not start it again, for this reason or because of this error, and say so."""
        self.error = error or failure(self, reason)
        self._home.forget(self.spec.name)
        self.startup.hang_up()
        self.become(ProcessState.FATAL)
        self._audience.given_up(self, self.error)

    def note(self, ended: Ended, reason: str) -> None:
        """Its process has ended; *reason* is ours if we ended it."""
        self.last_exit = _cause(self, ended, reason, self._home.oom)
        self.child = self.ended_for = None
        self.startup.expect("")  # how it ended is what there is to tell now

    def _record(self) -> None:
        if self.child is not None:
            self._home.enter(_entry(self), self.child)
