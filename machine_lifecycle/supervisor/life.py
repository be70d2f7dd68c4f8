"""The life of a supervised process: start, readiness, end, and what the policy makes of that."""

from __future__ import annotations

import asyncio
import logging
import random
import signal
from typing import Protocol

import attrs

from machine_lifecycle.errors import LifecycleError
from machine_lifecycle.model.processes import ExitCause, ProcessSpec, ProcessState
from machine_lifecycle.plan.errors import PortTaken
from machine_lifecycle.supervisor import policy
from machine_lifecycle.supervisor.child import Child, Ended
from machine_lifecycle.supervisor.startup import Startup

__all__ = ["Life", "Living", "OurEnd"]

_log = logging.getLogger(__name__)


@attrs.frozen
class OurEnd:
    """Why we ended a process that is to be started anew.

    Attributes:
        reason: In words.
        counts: Whether that is held against it, as an end of its own would be.
    """

    reason: str
    counts: bool


class Living(Protocol):
    """What is kept running: a ``Unit``, as its life sees it."""

    spec: ProcessSpec
    state: ProcessState
    child: Child | None
    startup: Startup
    error: LifecycleError | None
    last_exit: ExitCause | None
    restarts: int
    ended_for: OurEnd | None

    def may_spawn(self) -> bool:
        """Whether nothing has to be waited for."""

    def spawn(self) -> None:
        """Start the process."""

    def become(self, state: ProcessState, *, ready: bool = False) -> None:
        """Enter a state."""

    def note(self, ended: Ended, reason: str) -> None:
        """Its process has ended."""

    def rest(self) -> None:
        """It ended as it should."""

    def give_up(self, reason: str, error: LifecycleError | None = None) -> None:
        """Not start it again."""


class Life:
    """One life of a unit, from the time it is wanted until it isn't. Cancelling it leaves the
    process as it is.
    """

    def __init__(self, unit: Living) -> None:
        self._unit = unit
        self._history = policy.History()

    async def run(self) -> None:
        """Keep the process running until it rests, is given up, or this is cancelled."""
        unit = self._unit
        while True:
            if unit.child is None and not await self._try_spawn():
                return
            if unit.child is not None:
                ended, reason, ready_for = await self._run(unit.child)
                await self._clear(unit.child)
                why = unit.ended_for
                unit.note(ended, reason)
                self._weigh(ready_for)
                failed = ended.failed or bool(reason)
                if why is not None and not why.counts:
                    unit.become(ProcessState.BACKOFF)
                    unit.restarts += 1
                    continue
            else:
                failed = True
            if not await self._pause(failed=failed):
                return

    async def _clear(self, child: Child) -> None:
        """Wait until all of the tree is gone: it holds the port, or the memory of the GPU."""
        if child.remains:
            self._unit.become(self._unit.state)  # ready no more, however long this takes
        if left := await child.sweep():
            _log.warning("%s: processes that can't be killed: %s", self._unit.spec.name, left)

    def _weigh(self, ready_for: float | None) -> None:
        """Keep what the run that ended says about the next one; ``None``: it never was ready."""
        cause = self._unit.last_exit
        if ready_for is not None:
            self._history = policy.settled(self._unit.spec.restart, self._history, ready_for)
        elif cause is not None:
            self._history = policy.never_ready(self._history, cause)

    async def _try_spawn(self) -> bool:
        unit = self._unit
        if not unit.may_spawn():
            unit.startup.expect(", ".join(unit.spec.needs))
            unit.become(ProcessState.WAITING)
            await unit.startup.needs.wait()
        await unit.startup.clear()
        try:
            unit.spawn()
        except PortTaken as error:  # whoever has it may go: counts as one more failure
            unit.error = error
        except (LifecycleError, OSError) as error:
            unit.give_up(str(error), error if isinstance(error, LifecycleError) else None)
            return False
        else:
            unit.error = None
        return True

    async def _run(self, child: Child) -> tuple[Ended, str, float | None]:
        """From spawn to end: how it ended, our own reason if we ended it, and the seconds since it
        was ready; ``None`` if it never was.
        """
        unit = self._unit
        loop = asyncio.get_running_loop()
        reason = await self._reach_readiness(child) if unit.spec.readiness else ""
        ready_at: float | None = None
        if not reason and not child.ended.done():
            ready_at = loop.time()
            unit.error = None
            unit.become(ProcessState.RUNNING, ready=True)
            reason = await self._until_hung(child) if unit.spec.watchdog else ""
        ended = await asyncio.shield(child.ended)
        if not reason and unit.ended_for is not None:
            reason = unit.ended_for.reason
        return ended, reason, None if ready_at is None else loop.time() - ready_at

    async def _reach_readiness(self, child: Child) -> str:
        """Return when it is ready or has ended; why we ended it, if we did."""
        unit = self._unit
        until_ready = unit.startup.until_ready()
        probing = asyncio.create_task(until_ready, name=f"{unit.spec.name} readiness")
        try:
            await asyncio.wait((probing, child.ended), return_when=asyncio.FIRST_COMPLETED)
            if not child.ended.done():
                probing.result()
        except TimeoutError:
            reason = f"start deadline ({unit.spec.start_deadline:g} s)"
            reason += f", waiting for {unit.startup.waiting()}"
            await child.end(signal.Signals[unit.spec.stop.signal], unit.spec.stop.grace)
            return reason
        finally:
            probing.cancel()
            await asyncio.wait([probing])
        return ""

    async def _until_hung(self, child: Child) -> str:
        """Until it has ended by itself, or a beat of its watchdog is missed: then it is ended, and
        this is why.
        """
        watching = asyncio.get_running_loop().create_task(
            self._unit.startup.missed(), name=f"{self._unit.spec.name} watchdog"
        )
        try:
            await asyncio.wait((watching, child.ended), return_when=asyncio.FIRST_COMPLETED)
            if child.ended.done():
                return ""
            reason = watching.result()
        finally:
            watching.cancel()
        # As systemd does: a program that dumps its stack at SIGABRT tells where it hung.
        await child.end(signal.SIGABRT, self._unit.spec.stop.grace)
        return reason

    async def _pause(self, *, failed: bool) -> bool:
        """Wait before the next start; false if there is none."""
        unit = self._unit
        now = asyncio.get_running_loop().time()
        rule = unit.spec.restart
        verdict = policy.decide(
            rule,
            self._history,
            failed=failed,
            now=now,
            fraction=random.random(),  # noqa: S311 - jitter
            hopeless=(unit.startup.said() or {}).get("recoverable") is False,
        )
        match verdict:
            case policy.Wait(seconds=seconds):
                self._history = policy.record(rule, self._history, now)
                unit.become(ProcessState.BACKOFF)
                await asyncio.sleep(seconds)
                unit.restarts += 1
                return True
            case policy.GiveUp(reason=reason):
                last = unit.last_exit.reason if unit.last_exit else "it could not be started"
                unit.give_up(f"{last}; {reason}", unit.error)
            case policy.Rest():
                unit.rest()
        return False
