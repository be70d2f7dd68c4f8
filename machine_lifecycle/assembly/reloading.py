"""Other settings for a machine that runs: change only what they change."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import attrs

from machine_lifecycle.assembly.commands import Reloaded
from machine_lifecycle.assembly.errors import ReloadFailed, ReloadRefused
from machine_lifecycle.assembly.planner import MachinePlanner
from machine_lifecycle.errors import LifecycleError
from machine_lifecycle.model.hardware import Hardware
from machine_lifecycle.model.plan import BootPlan
from machine_lifecycle.model.processes import ProcessState
from machine_lifecycle.model.progress import Unheard
from machine_lifecycle.model.settings import SettingInfo, Settings, setting_info
from machine_lifecycle.states import stimuli
from machine_lifecycle.states.names import MachineState
from machine_lifecycle.system.gpus import Gpus

if TYPE_CHECKING:
    from machine_lifecycle.assembly.parts import Parts

__all__ = ["reload"]

_WANTED = (
    ProcessState.WAITING,
    ProcessState.STARTING,
    ProcessState.RUNNING,
    ProcessState.BACKOFF,
)
_UP = (MachineState.READY, MachineState.PROCESSING)

_OF_HARDWARE = ("gpu_mode", "mock_gpus", "mock_gpu_model", "mock_gpu_memory_gb", "gpu_by_uuid")


def _check_installed(old: BootPlan, new: BootPlan) -> None:
    """Raise if the new plan needs an installation, which belongs to a boot.

    Raises:
        ReloadRefused: It does; with the services.
    """
    known = {one.service: one for one in old.installs}
    missing = [
        one.service for one in new.installs if one.installer and known.get(one.service) != one
    ]
    if missing:
        raise ReloadRefused(reason=f"{', '.join(missing)} must be installed first")


def _waiting_settings(
    old: Settings,
    new: Settings,
    hardware: Hardware,
    planner: Callable[[Settings], MachinePlanner],
) -> tuple[str, ...]:
    """Names of the settings that changed and make no difference to the plan: what reads them was
    made when the machine was opened.
    """
    before = planner(old).plan(hardware).digest

    def alone(info: SettingInfo) -> str:
        """The digest with this change alone; empty where it needs others to be of any use."""
        changed = attrs.evolve(old, **{info.field: getattr(new, info.field)})
        try:
            return planner(changed).plan(hardware).digest
        except LifecycleError:
            return ""

    changed = [
        info
        for info in setting_info()
        if getattr(old, info.field) != getattr(new, info.field) and info.field not in _OF_HARDWARE
    ]
    return tuple(info.env[0] for info in changed if alone(info) == before)


def _take(parts: Parts, settings: Settings, plan: BootPlan) -> None:
    parts.retake(settings)
    parts.runner.post(stimuli.PlanReplaced(plan=plan))
    parts.watching.expect(plan)


def _forget_workers(parts: Parts, old: BootPlan, new: BootPlan) -> None:
    for worker in {one.id for one in old.workers} - {one.id for one in new.workers}:
        parts.links.forget(worker)


async def _go_back(
    parts: Parts, settings: Settings, plan: BootPlan, running: set[str], failed: BootPlan
) -> None:
    """Keep running again what ran before; what somebody had stopped stays stopped."""
    _take(parts, settings, plan)
    await parts.supervisor.replace(plan.processes, settings.stop_budget)
    await parts.supervisor.launch([spec for spec in plan.processes if spec.name in running])
    for spec in plan.processes:
        if spec.name not in running:
            await parts.supervisor.stop(spec.name)
    _forget_workers(parts, failed, plan)


async def reload(parts: Parts, settings: Settings) -> Reloaded:
    """Make a new plan of other settings, and change what runs accordingly.

    Raises:
        ReloadRefused: The machine is not up, or the plan needs an installation.
        ReloadFailed: Something of the plan could not be started. What ran before runs again.
        LifecycleError: The plan can't be made, or what ran before can't be had back.
    """
    old, state = parts.lifecycle.record.plan, parts.lifecycle.state
    if old is None or state not in _UP:
        raise ReloadRefused(reason=f"the machine is in {state.value}")

    def planner(of: Settings) -> MachinePlanner:
        return attrs.evolve(parts.planner, settings=of)

    hardware = await Gpus(settings=settings).detect()
    await planner(settings).prepare(Unheard())
    plan = planner(settings).plan(hardware)
    _check_installed(old, plan)
    later = _waiting_settings(parts.settings, settings, old.hardware, planner)
    running = {one.name for one in parts.supervisor.statuses() if one.state in _WANTED}
    before = parts.settings
    _take(parts, settings, plan)
    try:
        changes = await parts.supervisor.replace(plan.processes, settings.stop_budget)
    except LifecycleError as error:
        await _go_back(parts, before, old, running, plan)
        raise ReloadFailed(
            reason=error.summary, fixes=error.remedies, context=tuple(str(error).splitlines())
        ) from error
    _forget_workers(parts, old, plan)
    parts.manifest.write(plan)
    await parts.fleet.publish("event_driven")
    return Reloaded(**attrs.asdict(changes), later=later)
