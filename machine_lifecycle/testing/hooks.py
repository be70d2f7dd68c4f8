"""What hears of a machine, and what may hold it back."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable
from typing import Any

from machine_lifecycle.lifecycle.errors import GateRefused
from machine_lifecycle.lifecycle.events import EVENTS, Event
from machine_lifecycle.lifecycle.gates import Gate, GateDefinition, GatePoint, Passage
from machine_lifecycle.lifecycle.hooks import Observer
from machine_lifecycle.model.plan import BootPlan
from machine_lifecycle.testing.rules import PATIENCE, Rules
from machine_lifecycle.testing.samples import made_up

__all__ = ["check_gate", "check_observer"]

_HOLDS_UP = 1.0
"""Seconds. Pages, workers and processes wait as long; a second is seen as a hang."""


async def check_observer(
    observer: Observer[Event], *, sample: Callable[[type[Event]], Event] | None = None
) -> None:
    """Hand an observer one event of each kind, and see that it bears them.

    Args:
        observer: A function or coroutine function of one event.
        sample: Makes an event of a kind, where made-up facts will not do; a kind for which it
            raises ``KeyError`` is made up all the same.

    Raises:
        RulesBroken: With every rule that does not hold.
    """
    rules = Rules(getattr(observer, "__qualname__", type(observer).__name__))
    for kind in (*EVENTS, Event):
        try:
            event = sample(kind) if sample else made_up(kind)
        except KeyError:
            event = made_up(kind)
        try:
            async with asyncio.timeout(PATIENCE):
                await _called(rules, observer, event)
        except TimeoutError:
            rules.hold(False, f"it still works on {kind.__name__} after {PATIENCE:g} s")  # noqa: FBT003
        except Exception as error:  # noqa: BLE001 - whatever it raises would switch it off
            words = f"{type(error).__name__}: {error}"
            rules.hold(False, f"it raises at {kind.__name__}, and would be switched off: {words}")  # noqa: FBT003
    rules.judge()


async def check_gate(gate: Gate | GateDefinition, *, plan: BootPlan | None = None) -> bool:
    """Ask a gate as a machine would, at its point or at each.

    Args:
        gate: A function or coroutine function of a ``Passage``, or what a package offers.
        plan: What is to run, for gates that look at it; none if not given, as before a stop that
            comes early.

    Returns:
        Whether it let the machine pass; ``False`` if it refused, as the rules want it.

    Raises:
        RulesBroken: With every rule that does not hold.
    """
    points = tuple(GatePoint)
    if isinstance(gate, GateDefinition):
        defined, points = gate, (gate.point,)
    else:
        defined = GateDefinition(point=GatePoint.READY, gate=gate)
    name = defined.name or getattr(defined.gate, "__qualname__", type(defined.gate).__name__)
    rules = Rules(f"gate {name}")
    rules.hold(defined.deadline > 0, f"it has {defined.deadline:g} s: it can never answer")
    rules.hold(callable(defined.gate), "it can't be called")
    rules.judge()
    passed = [await _ask(rules, defined, point, plan) for point in points]
    rules.judge()
    return all(passed)


async def _ask(
    rules: Rules, defined: GateDefinition, point: GatePoint, plan: BootPlan | None
) -> bool:
    at = f"before {point.value}"
    passage = Passage(point=point, machine_id="check", attempt=1, plan=plan)
    limit = min(defined.deadline, PATIENCE)
    try:
        async with asyncio.timeout(limit):
            answer: object = await _called(rules, defined.gate, passage)
    except TimeoutError:
        rules.hold(False, f"{at} it has no answer after {limit:g} s")  # noqa: FBT003
    except GateRefused as refused:
        rules.hold(bool(refused.reason.strip()), f"{at} it refuses without a reason")
        rules.hold(bool(refused.advice), f"{at} it refuses, and advises nothing: give remedies")
        rules.hold(point is not GatePoint.STOP, "it refuses a stop: nothing can prevent one")
        return False
    except Exception as error:  # noqa: BLE001 - whatever it raises would fail the boot as a fault
        words = f"{type(error).__name__}: {error}"
        rules.hold(False, f"{at} it raises {words}; to refuse, raise GateRefused")  # noqa: FBT003
    else:
        told = f"{at} it returns {answer!r}, which nobody reads; to refuse, raise GateRefused"
        rules.hold(answer is None, told)
    return True


async def _called(rules: Rules, hook: Callable[[Any], Any], told: object) -> object:
    """What it answers; a function that is no coroutine's holds up the machine while it runs."""
    began = time.monotonic()
    answer = hook(told)
    held = time.monotonic() - began
    rules.hold(held < _HOLDS_UP, f"it holds up the machine for {held:.1f} s: make it `async def`")
    return await answer if inspect.isawaitable(answer) else answer
