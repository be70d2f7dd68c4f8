"""Turns a bare GPU machine or container into one that takes jobs.

The names below are loaded when they are first used, so that importing this package costs nothing::

    from machine_lifecycle import Changed, Machine, Settings

    async with Machine.open(Settings(workers="simulation:1")) as machine:
        machine.on(Changed, lambda event: print(event.source, "->", event.target))
        await machine.boot()
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from machine_lifecycle.config.settings import LoadedSettings, load_settings
    from machine_lifecycle.connectors.http import HttpAnswer, HttpConnector
    from machine_lifecycle.errors import ConfigurationError, LifecycleError, Problems, Remedy
    from machine_lifecycle.installers.ready_made import GitInstaller, PipInstaller
    from machine_lifecycle.jobs.client import JobQueue, open_job_queue
    from machine_lifecycle.jobs.records import JobEvent, JobRecord
    from machine_lifecycle.lifecycle.errors import GateRefused
    from machine_lifecycle.lifecycle.events import (
        Changed,
        ConditionChanged,
        Event,
        EventsDropped,
        JobFinished,
        JobStarted,
        MachineFailed,
        MachineReady,
        MachineStopped,
        PacksLoaded,
        PacksTimed,
        ProcessChanged,
        StepFinished,
        StepProgressed,
        WorkerChanged,
    )
    from machine_lifecycle.lifecycle.gates import GateDefinition, GatePoint, Passage
    from machine_lifecycle.machine import Machine
    from machine_lifecycle.model.hardware import Gpu, GpuSource, Hardware
    from machine_lifecycle.model.installing import InstallContext, StepContext
    from machine_lifecycle.model.jobs import Job, JobResult, Output, Preview, Progress
    from machine_lifecycle.model.packs import Loaded, Pack, PackState
    from machine_lifecycle.model.ports import Connector, Installer, Probe, Step
    from machine_lifecycle.model.processes import (
        Command,
        CommandReady,
        HttpReady,
        LogReady,
        NotifyReady,
        RestartPolicy,
        StopPolicy,
        TcpReady,
        WebSocketReady,
    )
    from machine_lifecycle.model.services import Binding, Instance, Ports, ServiceDefinition
    from machine_lifecycle.model.settings import GpuMode, LogFormat, OnFailed, RedisMode, Settings
    from machine_lifecycle.model.status import Condition, StatusReport, WorkerStatus
    from machine_lifecycle.states.names import MachineState, Phase, Trigger

__all__ = [
    "Binding",
    "Changed",
    "Command",
    "CommandReady",
    "Condition",
    "ConditionChanged",
    "ConfigurationError",
    "Connector",
    "Event",
    "EventsDropped",
    "GateDefinition",
    "GatePoint",
    "GateRefused",
    "GitInstaller",
    "Gpu",
    "GpuMode",
    "GpuSource",
    "Hardware",
    "HttpAnswer",
    "HttpConnector",
    "HttpReady",
    "InstallContext",
    "Installer",
    "Instance",
    "Job",
    "JobEvent",
    "JobFinished",
    "JobQueue",
    "JobRecord",
    "JobResult",
    "JobStarted",
    "LifecycleError",
    "Loaded",
    "LoadedSettings",
    "LogFormat",
    "LogReady",
    "Machine",
    "MachineFailed",
    "MachineReady",
    "MachineState",
    "MachineStopped",
    "NotifyReady",
    "OnFailed",
    "Output",
    "Pack",
    "PackState",
    "PacksLoaded",
    "PacksTimed",
    "Passage",
    "Phase",
    "PipInstaller",
    "Ports",
    "Preview",
    "Probe",
    "Problems",
    "ProcessChanged",
    "Progress",
    "RedisMode",
    "Remedy",
    "RestartPolicy",
    "ServiceDefinition",
    "Settings",
    "StatusReport",
    "Step",
    "StepContext",
    "StepFinished",
    "StepProgressed",
    "StopPolicy",
    "TcpReady",
    "Trigger",
    "WebSocketReady",
    "WorkerChanged",
    "WorkerStatus",
    "load_settings",
    "open_job_queue",
]

_HOMES = {
    "config.settings": ("LoadedSettings", "load_settings"),
    "connectors.http": ("HttpAnswer", "HttpConnector"),
    "errors": ("ConfigurationError", "LifecycleError", "Problems", "Remedy"),
    "installers.ready_made": ("GitInstaller", "PipInstaller"),
    "jobs.client": ("JobQueue", "open_job_queue"),
    "jobs.records": ("JobEvent", "JobRecord"),
    "lifecycle.errors": ("GateRefused",),
    "lifecycle.gates": ("GateDefinition", "GatePoint", "Passage"),
    "machine": ("Machine",),
    "model.hardware": ("Gpu", "GpuSource", "Hardware"),
    "model.installing": ("InstallContext", "StepContext"),
    "model.jobs": ("Job", "JobResult", "Output", "Preview", "Progress"),
    "model.packs": ("Loaded", "Pack", "PackState"),
    "model.ports": ("Connector", "Installer", "Probe", "Step"),
    "model.processes": (
        "Command",
        "CommandReady",
        "HttpReady",
        "LogReady",
        "NotifyReady",
        "RestartPolicy",
        "StopPolicy",
        "TcpReady",
        "WebSocketReady",
    ),
    "model.services": ("Binding", "Instance", "Ports", "ServiceDefinition"),
    "model.settings": ("GpuMode", "LogFormat", "OnFailed", "RedisMode", "Settings"),
    "model.status": ("Condition", "StatusReport", "WorkerStatus"),
    "states.names": ("MachineState", "Phase", "Trigger"),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"{__name__}.{_HOME.get(name, 'lifecycle.events')}")
    value = getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
