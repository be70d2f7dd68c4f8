"""Other settings for a machine that runs: change only what they change."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from machine_lifecycle.assembly.errors import ReloadRefused
from machine_lifecycle.assembly.planner import MachinePlanner
from machine_lifecycle.model.hardware import Hardware
from machine_lifecycle.model.plan import BootPlan
from machine_lifecycle.model.settings import Settings, setting_info

__all__ = ["Reloaded", "check_installed", "waiting_settings"]

_OF_HARDWARE = ("gpu_mode", "mock_gpus", "mock_gpu_model", "mock_gpu_memory_gb")


@attrs.frozen(kw_only=True)
class Reloaded:
    """What a reload did: names of processes, and of settings.

    Attributes:
        added: Processes that were started.
        changed: Those that were started anew.
        removed: Those that were ended.
        same: Those that were left alone.
        later: Settings that are other than they were and count from the next start of the machine.
    """

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    same: tuple[str, ...] = ()
    later: tuple[str, ...] = ()


def check_installed(old: BootPlan, new: BootPlan) -> None:
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


def waiting_settings(
    old: Settings,
    new: Settings,
    hardware: Hardware,
    planner: Callable[[Settings], MachinePlanner],
) -> tuple[str, ...]:
    """Names of the settings that changed and make no difference to the plan: what reads them was
    made when the machine was opened.
    """
    before = planner(old).plan(hardware).digest
    changed = [
        info
        for info in setting_info()
        if getattr(old, info.field) != getattr(new, info.field) and info.field not in _OF_HARDWARE
    ]
    return tuple(
        info.env[0]
        for info in changed
        if planner(attrs.evolve(old, **{info.field: getattr(new, info.field)}))
        .plan(hardware)
        .digest
        == before
    )
