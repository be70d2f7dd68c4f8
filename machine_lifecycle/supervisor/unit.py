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
import contextlib
import logging
import random
import signal
import time
from collections.abc import AsyncIterator
from typing import Any, Protocol

from machine_lifecycle.errors import LifecycleError
from machine_lifecycle.model.processes import (
    ExitCause,
    NotifyReady,
    ProcessSpec,
    ProcessState,
    ProcessStatus,
)
from machine_lifecycle.supervisor import logs, policy, spawn
from machine_lifecycle.supervisor.child import Child, Ended
from machine_lifecycle.supervisor.errors import PortTaken, ProcessFailed
from machine_lifecycle.supervisor.household import Household
from machine_lifecycle.supervisor.journal import Entry
from machine_lifecycle.supervisor.notify import NotifySocket, notify_path
from machine_lifecycle.supervisor.readiness import Surroundings, describe, wait_until

__all__ = ["Audience", "Unit"]

_TAIL = 20
_log = logging.getLogger(__name__)


class Audience(Protocol):
    """Who hears of a unit."""

    def changed(self, unit: Unit) -> None:
        """Its state or its readiness is another."""

    def given_up(self, unit: Unit, error: LifecycleError) -> None:
        """It won't be started again."""


async def _first(*futures: asyncio.Future[Any]) -> None:
    await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)


class Unit:
    """One process that is kept running. Used on the event loop only.

    Attributes:
        spec: What is kept running.
        state: How it does.
        ready: Whether all its readiness conditions hold.
        error: Why it was given up.
        child: The process, while there is one.
    """

    def __init__(self, spec: ProcessSpec, token: str, home: Household, audience: Audience) -> None:
        self.spec = spec
        self.token = token
        self.log = spawn.log_path(spec, home.paths.logs)
        self.state = ProcessState.WAITING
        self.ready = False
        self.error: LifecycleError | None = None
        self.child: Child | None = None
        self.since = time.time()
        self.restarts = 0
        self.last_exit: ExitCause | None = None
        self._home = home
        self._audience = audience
        self._history = policy.History()
        self._task: asyncio.Task[None] | None = None
        self._started: float | None = None
        self._waiting_for = ""
        self._waiting_since = 0.0
        self._log_offset = 0
        self._deadline: asyncio.Timeout | None = None
        self._needs = asyncio.Event()
        self._linked = asyncio.Event()
        self._notified = asyncio.Event()
        self._notify: NotifySocket | None = None

    # What others ask and tell

    @property
    def wanted(self) -> bool:
        """Whether it runs, or will without anybody asking."""
        return self._task is not None and not self._task.done()

    def status(self) -> ProcessStatus:
        """All that is known, for readers."""
        return ProcessStatus(
            name=self.spec.name,
            role=self.spec.role,
            state=self.state,
            ready=self.ready,
            pid=self.child.pid if self.child else None,
            port=self.spec.port,
            gpu=self.spec.gpu,
            essential=self.spec.essential,
            since=self.since,
            started=self._started if self.child else None,
            restarts=self.restarts,
            waiting_for=self._waiting(),
            last_exit=self.last_exit,
            adopted=self.child is not None and self.child.adopted,
            log=str(self.log),
        )

    def _waiting(self) -> str:
        if self.ready or not self._waiting_for:
            return ""
        said = self._notify.status if self._notify else ""
        detail = f" ({said})" if said else ""
        return f"{self._waiting_for}{detail}, {time.monotonic() - self._waiting_since:.0f} s"

    def needs_changed(self, *, ready: bool) -> None:
        """What it needs got ready, or is no longer. Its start deadline counts only meanwhile."""
        (self._needs.set if ready else self._needs.clear)()
        if self._deadline is not None:
            self._deadline.reschedule(self._due())

    def link(self, *, ready: bool) -> None:
        """It says over its link that it is connected, or is no longer."""
        (self._linked.set if ready else self._linked.clear)()
        if self.state is ProcessState.RUNNING and self.ready != ready:
            self._await(describe(self.spec.readiness[-1], self.spec) if not ready else "")
            self.ready = ready
            self._audience.changed(self)

    def _due(self) -> float | None:
        if not self._needs.is_set() and self.spec.needs:
            return None
        return asyncio.get_running_loop().time() + self.spec.start_deadline

    def _await(self, words: str, problem: str = "") -> None:
        text = f"{words}: {problem}" if problem else words
        if not self._waiting_for.startswith(words) or not words:
            self._waiting_since = time.monotonic()
        self._waiting_for = text

    def _become(self, state: ProcessState, *, ready: bool = False) -> None:
        if (state, ready) != (self.state, self.ready):
            if state is not self.state:
                self.since = time.time()
            self.state, self.ready = state, ready
            self._audience.changed(self)

    # Start and stop

    def may_spawn(self) -> bool:
        """Whether nothing has to be waited for."""
        return self.spec.standby or not self.spec.needs or self._needs.is_set()

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
        self._listen()
        if self._notify:
            env["NOTIFY_SOCKET"] = str(self._notify.path)
        self._notified.clear()
        self._linked.clear()
        logs.rotate(self.log)
        self._log_offset = logs.size(self.log)
        self.child = self._home.watch(spawn.spawn(spec, self.log, env), self.token)
        self._started = time.time()
        self._await("")
        self._record()
        self._become(ProcessState.STARTING)

    def adopt(self, entry: Entry) -> None:
        """Take over the process of an earlier orchestrator.

        Raises:
            ProcessLookupError: It has ended.
        """
        self.child = self._home.adopt(entry)
        self.token = entry.token
        self.restarts, self._started = entry.restarts, entry.started
        self._log_offset = entry.log_offset
        self._listen()
        if entry.notified:
            self._notified.set()
        self._record()
        self._become(ProcessState.STARTING)

    def refuse(self, error: LifecycleError) -> None:
        """It can't be started, and whoever asked for it is told directly."""
        self.error = error
        self._home.forget(self.spec.name)
        self._hang_up()
        self._become(ProcessState.FATAL)

    def begin(self) -> None:
        """Keep it running from now on."""
        self._task = asyncio.get_running_loop().create_task(self._live(), name=self.spec.name)
        self._task.add_done_callback(self._life_ended)

    def _life_ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("the supervision of %s broke", self.spec.name, exc_info=error)
            self._give_up(f"its supervision broke: {error!r}")

    async def stop(self, grace: float) -> tuple[int, ...]:
        """End it and don't start it again; numbers of processes that could not be ended."""
        task = self._task
        if task is not None and not task.done():
            task.cancel()
            await asyncio.wait([task])
        left: tuple[int, ...] = ()
        child = self.child
        if child is not None:
            self._become(ProcessState.STOPPING)
            left = await child.end(signal.Signals[self.spec.stop.signal], grace)
            if self.child is child and not self.wanted:
                self._note(child.ended.result() if child.ended.done() else Ended(), "")
        if self.wanted:
            return left  # somebody started it again meanwhile
        if self.state not in (ProcessState.FATAL, ProcessState.EXITED):
            self._become(ProcessState.STOPPED)
        self._hang_up()
        if not left:
            self._home.forget(self.spec.name)
        return left

    def kill(self) -> None:
        """End its tree at once."""
        if self._task is not None:
            self._task.cancel()
        if self.child is not None:
            self.child.kill()

    # Its life

    async def _live(self) -> None:
        while True:
            if self.child is None and not await self._try_spawn():
                return
            if self.child is not None:
                ended, reason, ready_for = await self._run(self.child)
                await self.child.sweep()
                self._note(ended, reason)
                self._history = policy.settled(self.spec.restart, self._history, ready_for)
                failed = ended.failed or bool(reason)
            else:
                failed = True
            if not await self._pause(failed=failed):
                return

    async def _try_spawn(self) -> bool:
        if not self.may_spawn():
            self._await(", ".join(self.spec.needs))
            self._become(ProcessState.WAITING)
            await self._needs.wait()
        try:
            self.spawn()
        except PortTaken as error:  # whoever has it may go: counts as one more failure
            self.error = error
        except (LifecycleError, OSError) as error:
            self._give_up(str(error), error if isinstance(error, LifecycleError) else None)
            return False
        return True

    async def _run(self, child: Child) -> tuple[Ended, str, float]:
        """From spawn to end: how it ended, our own reason if we ended it, seconds in readiness."""
        loop = asyncio.get_running_loop()
        probing = loop.create_task(self._become_ready(), name=f"{self.spec.name} readiness")
        reason, ready_at = "", loop.time()
        try:
            await _first(probing, child.ended)
            if not child.ended.done():
                try:
                    probing.result()
                except TimeoutError:
                    reason = f"start deadline ({self.spec.start_deadline:g} s)"
                    reason += f", waiting for {self._waiting_for}" if self._waiting_for else ""
                    await child.end(signal.Signals[self.spec.stop.signal], self.spec.stop.grace)
                else:
                    ready_at = loop.time()
                    self._await("")
                    self.error = None
                    self._become(ProcessState.RUNNING, ready=True)
            ended = await asyncio.shield(child.ended)
        finally:
            probing.cancel()
            await asyncio.wait([probing])
        was_ready = self.state is ProcessState.RUNNING
        return ended, reason, loop.time() - ready_at if was_ready else 0.0

    @contextlib.asynccontextmanager
    async def _counting(self) -> AsyncIterator[None]:
        """Within the start deadline, which doesn't count while something needed is away."""
        async with asyncio.timeout_at(self._due()) as deadline:
            self._deadline = deadline
            try:
                yield
            finally:
                self._deadline = None

    async def _become_ready(self) -> None:
        around = Surroundings(
            spec=self.spec,
            log=self.log,
            log_offset=self._log_offset,
            notified=self._notified,
            linked=self._linked,
            run=lambda command: self._home.run(self.spec.name, command),
        )
        async with self._counting():
            for readiness in self.spec.readiness:
                words = describe(readiness, self.spec)
                self._await(words)
                await wait_until(
                    readiness,
                    around,
                    lambda problem, words=words: self._await(words, problem),  # type: ignore[misc]  # a bound default
                )

    async def _pause(self, *, failed: bool) -> bool:
        """Wait before the next start; false if there is none."""
        now = asyncio.get_running_loop().time()
        rule = self.spec.restart
        verdict = policy.decide(
            rule,
            self._history,
            failed=failed,
            now=now,
            fraction=random.random(),  # noqa: S311 - jitter
        )
        match verdict:
            case policy.Wait(seconds=seconds):
                self._history = policy.record(rule, self._history, now)
                self._become(ProcessState.BACKOFF)
                await asyncio.sleep(seconds)
                self.restarts += 1
                return True
            case policy.GiveUp(reason=reason):
                last = self.last_exit.reason if self.last_exit else "it could not be started"
                self._give_up(f"{last}; {reason}", self.error)
            case policy.Rest():
                self._home.forget(self.spec.name)
                self._become(ProcessState.EXITED)
        self._hang_up()
        return False

    def _give_up(self, reason: str, error: LifecycleError | None = None) -> None:
        self.error = error or ProcessFailed(
            process=self.spec.name,
            reason=reason,
            restarts=self.restarts,
            log=str(self.log),
            where=self.spec.name,
            context=self.last_exit.tail if self.last_exit else logs.tail(self.log, _TAIL),
        )
        self._home.forget(self.spec.name)
        self._become(ProcessState.FATAL)
        self._audience.given_up(self, self.error)

    # Records

    def _note(self, ended: Ended, reason: str) -> None:
        self.last_exit = ExitCause(
            code=ended.code,
            signal=ended.signal,
            reason=reason or ended.words,
            at=time.time(),
            tail=logs.tail(self.log, _TAIL),
        )
        self.child = None

    def _record(self) -> None:
        if self.child is None:
            return
        identity = self.child.identity
        self._home.entries[self.spec.name] = Entry(
            name=self.spec.name,
            token=self.token,
            pid=identity.pid,
            created=identity.created,
            boot=identity.boot,
            digest=spawn.digest(self.spec, self._home.secrets),
            log=str(self.log),
            log_offset=self._log_offset,
            restarts=self.restarts,
            started=self._started or 0.0,
            notified=self._notified.is_set(),
        )
        self._home.save_soon()

    def _listen(self) -> None:
        if self._notify is None and any(isinstance(r, NotifyReady) for r in self.spec.readiness):
            path = notify_path(self._home.paths.runtime, self.spec.name)
            self._notify = NotifySocket(path, self._on_notified)

    def _on_notified(self) -> None:
        self._notified.set()
        self._record()

    def _hang_up(self) -> None:
        if self._notify is not None:
            self._notify.close()
            self._notify = None
