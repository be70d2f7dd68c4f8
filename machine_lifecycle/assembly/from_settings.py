"""What the settings say, in the words of the rooms that go by it: retries, limits, logs."""

from __future__ import annotations

import difflib

from machine_lifecycle.config.errors import SettingInvalid, raise_problems
from machine_lifecycle.config.values import parse_limits
from machine_lifecycle.lifecycle.policy import BootPolicy
from machine_lifecycle.lifecycle.record import Limits
from machine_lifecycle.model.settings import Settings
from machine_lifecycle.states.names import MachineState
from machine_lifecycle.states.table import TABLE
from machine_lifecycle.supervisor.rotation import LogRules

__all__ = ["boot_policy", "log_rules", "state_limits"]


def boot_policy(settings: Settings) -> BootPolicy:
    """How often a boot is tried, and how long is waited between."""
    return BootPolicy(
        attempts=settings.boot_attempts,
        backoff=settings.boot_backoff,
        backoff_max=settings.boot_backoff_max,
    )


def state_limits(settings: Settings) -> dict[MachineState, Limits]:
    """How long a state may stand still and take, where that is not as the table of states says.

    Raises:
        LifecycleError: A limit is for a state that there is not.
    """
    _check_states(
        MACHINE_STALL_LIMITS=settings.stall_limits, MACHINE_STATE_CAPS=settings.state_caps
    )
    stalls, caps = parse_limits(settings.stall_limits), dict(parse_limits(settings.state_caps))
    warms = settings.comfyui_warmup or settings.simulation_warmup or settings.service_mapping
    waits = MachineState.WORKERS_STARTING
    # The wait after lives that failed is a part of Starting.
    if usual := TABLE.spec(MachineState.STARTING).cap:
        caps.setdefault(MachineState.STARTING.value, usual + settings.crash_backoff_max)
    # Services are warmed up in WorkersStarting, for as long as that has a limit of its own.
    if warms and (usual := TABLE.spec(waits).cap):
        caps.setdefault(waits.value, usual + settings.comfyui_warmup_timeout)
    return {
        state: Limits(stall=stalls.get(state.value), cap=caps.get(state.value))
        for state in MachineState
        if state.value in stalls or state.value in caps
    }


def _check_states(**limits: str) -> None:
    known = [state.value for state in MachineState]

    def close(word: str) -> str:
        return next(iter(difflib.get_close_matches(word, known)), MachineState.INSTALLING.value)

    errors = [
        SettingInvalid(
            variable=variable,
            written="the settings",
            value=text,
            problem=f"there is no state `{word}`; there are {', '.join(known)}",
            example=f"{close(word)}={seconds:g}",
        )
        for variable, text in limits.items()
        for word, seconds in parse_limits(text).items()
        if word not in known
    ]
    raise_problems("limits of states", errors)


def log_rules(settings: Settings) -> LogRules:
    """When logs are put aside, and how many of them are kept."""
    return LogRules(
        max_bytes=settings.log_max_mb << 20,
        archives=settings.log_archives,
        max_age=settings.log_max_age_days * 86400,
        compress=settings.log_compress,
    )
