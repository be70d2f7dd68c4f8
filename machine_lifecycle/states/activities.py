"""Which module says what happens in which state."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from machine_lifecycle.states import (
    custom_nodes,
    health_check,
    installing,
    launching,
    pm_generation,
    restarting,
    services_starting,
    starting,
    stopping,
    workers_starting,
)
from machine_lifecycle.states.context import Context
from machine_lifecycle.states.names import MachineState
from machine_lifecycle.states.stimuli import Stimulus
from machine_lifecycle.states.table import TABLE, TableFault

__all__ = ["ACTIVITIES", "Activity"]

Activity = Callable[[Context], Awaitable[Stimulus]]
"""Does what a state is for; returns the fact that ends it, or raises a ``LifecycleError``.

Cancelling it leaves nothing half done that a second run can't repair.
"""

ACTIVITIES: Mapping[MachineState, Activity] = {
    MachineState.STARTING: starting.run,
    MachineState.INSTALLING: installing.run,
    MachineState.CUSTOM_NODES: custom_nodes.run,
    MachineState.PM_GENERATION: pm_generation.run,
    MachineState.LAUNCHING: launching.run,
    MachineState.SERVICES_STARTING: services_starting.run,
    MachineState.WORKERS_STARTING: workers_starting.run,
    MachineState.HEALTH_CHECK: health_check.run,
    MachineState.RESTARTING: restarting.run,
    MachineState.STOPPING: stopping.run,
}

_WANTED = {spec.state for spec in TABLE.states if spec.activity}
if set(ACTIVITIES) != _WANTED:
    raise TableFault(f"activities and states differ: {set(ACTIVITIES) ^ _WANTED}")
