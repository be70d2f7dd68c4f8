"""Gates: they may hold a machine back at four points of its life, and nothing else.

A gate returns, and the machine goes on; raises ``GateRefused``, and the boot has failed with its
reason; or takes too long, which fails the attempt. Gates of one point are asked all at once.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from enum import Enum

import attrs

from machine_lifecycle.errors import LifecycleError, Problems
from machine_lifecycle.lifecycle.errors import GateRefused, GateTooLate
from machine_lifecycle.model.plan import BootPlan
from machine_lifecycle.model.ports import Clock, ProgressSink
from machine_lifecycle.states.names import MachineState

__all__ = ["AFTER", "BEFORE", "DEADLINE", "Gate", "GateDefinition", "GatePoint", "Gates", "Passage"]

DEADLINE = 60.0
"""Seconds a gate has unless it is added with another figure."""


class GatePoint(Enum):
    """Before what a gate may hold the machine back."""

    INSTALL = "install"
    LAUNCH = "launch"
    READY = "ready"
    STOP = "stop"
    """It can delay a stop until its deadline; nothing can prevent one."""


BEFORE = {
    MachineState.INSTALLING: GatePoint.INSTALL,
    MachineState.LAUNCHING: GatePoint.LAUNCH,
    MachineState.STOPPING: GatePoint.STOP,
}
"""The point that lies before what a state does."""
AFTER = {MachineState.HEALTH_CHECK: GatePoint.READY}
"""The point that lies after it."""


@attrs.frozen(kw_only=True)
class Passage:
    """What a gate is told.

    Attributes:
        attempt: Boot attempt, from 1.
        plan: What is to run; ``None`` where a stop comes before there is a plan.
    """

    point: GatePoint
    machine_id: str
    attempt: int
    plan: BootPlan | None


Gate = Callable[[Passage], Awaitable[None] | None]
"""Returns if the machine may go on, else raises ``GateRefused``; may be a coroutine function. It is
called on the machine's loop."""


@attrs.frozen(kw_only=True)
class GateDefinition:
    """A gate as a value: what a package offers in the entry point group of gates.

    Attributes:
        point: Before what it stands.
        gate: It.
        name: For people; the entry point's where it is empty.
        deadline: Seconds it has at each attempt.
    """

    point: GatePoint
    gate: Gate
    name: str = ""
    deadline: float = DEADLINE


@attrs.frozen(eq=False)
class _Placed:
    gate: Gate
    name: str
    deadline: float


class Gates:
    """The gates of one machine."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._placed: dict[GatePoint, list[_Placed]] = {point: [] for point in GatePoint}

    def add(
        self, point: GatePoint, gate: Gate, *, name: str = "", deadline: float = DEADLINE
    ) -> Callable[[], None]:
        """Place a gate; the answer takes it away again.

        Args:
            point: Before what it stands.
            gate: It.
            name: For people; the function's own where it is empty.
            deadline: Seconds it has.
        """
        placed = _Placed(gate, name or getattr(gate, "__qualname__", repr(gate)), deadline)
        self._placed[point].append(placed)

        def remove() -> None:
            if placed in self._placed[point]:
                self._placed[point].remove(placed)

        return remove

    async def pass_through(self, passage: Passage, progress: ProgressSink) -> None:
        """Ask all gates of a point; return when every one has let the machine pass.

        Raises:
            GateRefused, GateTooLate: One did not.
            Problems: Several did not.
        """
        asked = [self._ask(placed, passage, progress) for placed in self._placed[passage.point]]
        if not asked:
            return
        answers = await asyncio.gather(*asked, return_exceptions=True)
        for answer in answers:
            if isinstance(answer, BaseException) and not isinstance(answer, LifecycleError):
                raise answer  # a mistake in a gate, or the end of the wait for it
        refusals = tuple(answer for answer in answers if isinstance(answer, LifecycleError))
        if len(refusals) == 1:
            raise refusals[0]
        if refusals:
            raise Problems(subject=f"gates before {passage.point.value}", errors=refusals)

    async def _ask(self, placed: _Placed, passage: Passage, progress: ProgressSink) -> None:
        step, began = f"gate {placed.name}", self._clock.monotonic()
        progress.step(step)
        try:
            async with asyncio.timeout(placed.deadline) as limit:
                answer = placed.gate(passage)
                if inspect.isawaitable(answer):
                    await answer
        except TimeoutError as error:
            if not limit.expired():
                raise  # the gate's own
            raise GateTooLate(
                gate=placed.name, point=passage.point.value, seconds=placed.deadline
            ) from error
        except GateRefused as refused:
            refused.gate, refused.point = placed.name, passage.point.value
            raise
        progress.finished(step, seconds=self._clock.monotonic() - began)
