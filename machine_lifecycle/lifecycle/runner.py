"""The runner acts: the one loop that feeds facts to the lifecycle and carries out its orders."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import attrs

from machine_lifecycle.errors import LifecycleError, as_one
from machine_lifecycle.lifecycle import directives, events
from machine_lifecycle.lifecycle.core import Lifecycle
from machine_lifecycle.lifecycle.gates import AFTER, BEFORE, GatePoint, Gates, Passage
from machine_lifecycle.lifecycle.hooks import EventBus
from machine_lifecycle.model.ports import Clock, ProgressSink
from machine_lifecycle.states import stimuli, stopping
from machine_lifecycle.states.activities import ACTIVITIES, Activity
from machine_lifecycle.states.context import Context
from machine_lifecycle.states.errors import InternalFault
from machine_lifecycle.states.names import MachineState

__all__ = ["Runner", "as_error"]

CANCEL_PATIENCE = 3.0
"""Seconds a cancelled activity gets to clean up before the next one starts all the same."""


class Runner:
    """Runs one machine's life from its opening to its end."""

    def __init__(
        self,
        lifecycle: Lifecycle,
        *,
        clock: Clock,
        bus: EventBus,
        context: Callable[[int, ProgressSink], Context],
        waiting: Callable[[], tuple[str, ...]] = tuple,
        gates: Gates | None = None,
        activities: Mapping[MachineState, Activity] = ACTIVITIES,
    ) -> None:
        """Nothing runs until ``run()``.

        Args:
            lifecycle: Decides.
            clock: Time.
            bus: Where events go.
            context: Makes the context of an activity, for an attempt.
            waiting: What is waited for now, in words, for errors of waiting too long.
            gates: What may hold it back; none where there is nobody to ask.
            activities: What happens in which state; others only in tests.
        """
        self._lifecycle = lifecycle
        self._clock = clock
        self._bus = bus
        self._context = context
        self._waiting = waiting
        self._gates = gates or Gates(clock)
        self._activities = activities
        self._inbox: asyncio.Queue[stimuli.Stimulus] = asyncio.Queue()
        self._timers: set[asyncio.Task[None]] = set()
        self._activity: asyncio.Task[None] | None = None
        self._force: asyncio.Task[None] | None = None
        self._exit_code: int | None = None

    def post(self, stimulus: stimuli.Stimulus) -> None:
        """Report a fact. On the loop only; returns at once."""
        self._inbox.put_nowait(stimulus)

    async def run(self) -> int:
        """Live; the exit code. Cancelling it is like a stop that forces."""
        self.post(stimuli.Opened())
        try:
            while self._exit_code is None:
                self._take(await self._inbox.get())
            return self._exit_code
        finally:
            await self._end()

    def _take(self, stimulus: stimuli.Stimulus) -> None:
        stamped = attrs.evolve(stimulus, at=self._clock.monotonic())
        if isinstance(stamped, stimuli.TimeUp):
            stamped = attrs.evolve(stamped, waiting=self._waiting())
        for directive in self._lifecycle.handle(stamped):
            self._carry_out(directive)

    def _carry_out(  # noqa: C901 - one case per order
        self, directive: directives.Directive
    ) -> None:
        match directive:
            case directives.StartActivity(state=state, attempt=attempt):
                self._activity = asyncio.create_task(
                    self._perform(self._activity, state, attempt), name=f"state {state.value}"
                )
            case directives.CancelActivity():
                if self._activity:
                    self._activity.cancel()
            case directives.WakeAt(at=at, stimulus=stimulus):
                timer = asyncio.create_task(self._wake(at, stimulus))
                self._timers.add(timer)
                timer.add_done_callback(self._timers.discard)
            case directives.Emit(event=event):
                if isinstance(event, events.Changed):
                    self._drop_timers()  # they belonged to the state that was left
                self._bus.emit(event)
            case directives.ForceStop():
                if self._activity:
                    self._activity.cancel()
                if self._force is None:
                    self._force = asyncio.create_task(self._force_stop(), name="forced stop")
            case directives.Finish(exit_code=code):
                self._exit_code = code

    async def _perform(
        self, before: asyncio.Task[None] | None, state: MachineState, attempt: int
    ) -> None:
        if before and not before.done():
            await asyncio.wait({before}, timeout=CANCEL_PATIENCE)
        sink = _Progress(self._bus, self.post, state, attempt)
        try:
            await self._ask_gates(BEFORE.get(state), attempt, sink)
            ending = await self._activities[state](self._context(attempt, sink))
            await self._ask_gates(AFTER.get(state), attempt, sink)
            self.post(ending)
        except Exception as error:  # noqa: BLE001 - the edge: whatever an activity raises is a fault
            fault = as_error(error, during=state.value)
            self.post(stimuli.Faulted(attempt=attempt, error=fault, during=state))

    async def _ask_gates(self, point: GatePoint | None, attempt: int, sink: ProgressSink) -> None:
        if point is None:
            return
        plan = self._lifecycle.record.plan
        passage = Passage(point=point, machine_id=self._bus.machine_id, attempt=attempt, plan=plan)
        try:
            await self._gates.pass_through(passage, sink)
        except LifecycleError as refusal:
            if point is not GatePoint.STOP:
                raise
            # Nothing prevents a stop: it is recorded, and goes on.
            self.post(stimuli.Faulted(attempt=attempt, error=refusal))

    async def _force_stop(self) -> None:
        attempt = self._lifecycle.attempt
        sink = _Progress(self._bus, self.post, MachineState.STOPPING, attempt)
        try:
            await stopping.force(self._context(attempt, sink))
        except Exception as error:  # noqa: BLE001 - the edge: recorded, and the end goes on
            fault = as_error(error, during="forced stop")
            self.post(stimuli.Faulted(attempt=attempt, error=fault))
        finally:
            self.post(stimuli.AllStopped())

    async def _wake(self, at: float, stimulus: stimuli.Stimulus) -> None:
        await self._clock.sleep_until(at)
        self.post(stimulus)

    def _drop_timers(self) -> None:
        for timer in self._timers:
            timer.cancel()

    async def _end(self) -> None:
        self._drop_timers()
        tasks = {task for task in (*self._timers, self._activity, self._force) if task}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=CANCEL_PATIENCE)


class _Progress:
    """A state's progress: events for the world, a sign of life for the stall limit."""

    def __init__(
        self,
        bus: EventBus,
        post: Callable[[stimuli.Stimulus], None],
        state: MachineState,
        attempt: int,
    ) -> None:
        self._bus = bus
        self._post = post
        self._state = state
        self._attempt = attempt

    def step(self, name: str, detail: str = "", *, done: int = 0, total: int = 0) -> None:
        self._post(stimuli.Progressed(attempt=self._attempt))
        self._bus.emit(
            events.StepProgressed(
                attempt=self._attempt,
                state=self._state,
                step=name,
                detail=detail,
                done=done,
                total=total,
            )
        )

    def finished(self, name: str, *, seconds: float, skipped: bool = False) -> None:
        self._post(stimuli.Progressed(attempt=self._attempt))
        self._bus.emit(
            events.StepFinished(
                attempt=self._attempt,
                state=self._state,
                step=name,
                seconds=seconds,
                skipped=skipped,
            )
        )


def as_error(error: BaseException, *, during: str) -> LifecycleError:
    """Any exception as one of ours; groups are unpacked, the cause stays chained."""
    if isinstance(error, LifecycleError):
        return error
    if isinstance(error, BaseExceptionGroup):
        parts = tuple(as_error(part, during=during) for part in error.exceptions)
        return as_one(during, parts)
    fault = InternalFault(during=during, kind=type(error).__name__, message=str(error))
    fault.context = _where(error)
    fault.__cause__ = error
    return fault


def _where(error: BaseException) -> tuple[str, ...]:
    lines: list[str] = []
    trace = error.__traceback__
    while trace:
        code = trace.tb_frame.f_code
        lines.append(f"{code.co_filename}:{trace.tb_lineno} in {code.co_name}")
        trace = trace.tb_next
    return tuple(lines[-3:])
