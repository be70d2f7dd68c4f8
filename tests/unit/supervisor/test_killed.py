"""What becomes of processes that are killed and still there. One that hangs in the kernel can't be
had in a test, so these are told by hand.
"""

from __future__ import annotations

import logging
from typing import cast

import attrs
import pytest

from machine_lifecycle.model.processes import Command, ProcessSpec, ProcessState, Role, StopPolicy
from machine_lifecycle.supervisor.child import Child
from machine_lifecycle.supervisor.life import Life, Living
from machine_lifecycle.supervisor.unit import Unit
from machine_lifecycle.supervisor.wave import stop_wave

SPEC = ProcessSpec(
    name="comfyui", role=Role.SERVICE, command=Command(argv=("x",)), stop=StopPolicy(grace=5.0)
)


@attrs.define
class Hanging:
    """A process that ended, and what it had started did not."""

    left: tuple[int, ...]

    @property
    def remains(self) -> bool:
        return bool(self.left)

    async def sweep(self) -> tuple[int, ...]:
        return self.left


@attrs.define
class Told:
    """A unit, which hears of its life and of a stop."""

    spec: ProcessSpec = SPEC
    state: ProcessState = ProcessState.RUNNING
    became: list[tuple[ProcessState, bool]] = attrs.field(factory=list)
    stops: list[tuple[float, float]] = attrs.field(factory=list)

    def become(self, state: ProcessState, *, ready: bool = False) -> None:
        self.became.append((state, ready))

    async def stop(self, grace: float, killed_within: float) -> tuple[int, ...]:
        self.stops.append((grace, killed_within))
        return ()


async def test_a_service_is_not_ready_while_its_tree_dies_and_the_log_names_what_does_not(
    caplog: pytest.LogCaptureFixture,
) -> None:
    unit = Told()
    with caplog.at_level(logging.WARNING):
        await Life(cast(Living, unit))._clear(cast(Child, Hanging((7,))))
    assert unit.became == [(ProcessState.RUNNING, False)]
    assert caplog.messages == ["comfyui: processes that can't be killed: (7,)"]


async def test_nothing_is_told_of_a_tree_that_is_gone(caplog: pytest.LogCaptureFixture) -> None:
    unit = Told()
    await Life(cast(Living, unit))._clear(cast(Child, Hanging(())))
    assert (unit.became, caplog.messages) == ([], [])


@pytest.mark.parametrize("budget", [20.0, 4.0])
async def test_what_is_killed_has_the_rest_of_the_budget_to_die_and_never_less_than_two_seconds(
    budget: float,
) -> None:
    unit = Told()
    await stop_wave([cast(Unit, unit)], budget)
    [(grace, killed)] = unit.stops
    assert grace <= min(SPEC.stop.grace, budget - 0.5)
    assert 2.0 <= killed <= max(2.0, budget - grace)
