"""The processes of a plan: services and the workers that drive them."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import attrs

from machine_lifecycle.config.settings import settings_env
from machine_lifecycle.model.bundle import BUNDLE_FOLDER, WorkerBundle
from machine_lifecycle.model.catalogue import ServiceEntry
from machine_lifecycle.model.hardware import Hardware
from machine_lifecycle.model.limits import Limits
from machine_lifecycle.model.paths import Paths
from machine_lifecycle.model.plan import WorkerPlan
from machine_lifecycle.model.processes import Command, LinkReady, ProcessSpec, Role, StopPolicy
from machine_lifecycle.model.services import Instance, ServiceDefinition
from machine_lifecycle.model.settings import Settings, setting_info
from machine_lifecycle.model.warming import VARIABLE, WarmUp, warm_ups_text
from machine_lifecycle.plan.ports import base_port_variable, reachable_host

__all__ = [
    "CONNECTOR_OPTIONS",
    "connector_variables",
    "service_process",
    "worker_process",
]

CONNECTOR_OPTIONS = ("hung_after",)
"""What a mapping's ``installer_config`` may say to the connector of the service."""

WARM_UP_OPTION = "warmup"
"""What it may say of the graph that a service runs before it takes jobs: a file."""

_MIB_PER_GIB = 1024
_OF_THE_MACHINE = frozenset(
    (
        "boot_attempts",
        "boot_backoff",
        "boot_backoff_max",
        "comfyui_lock",
        "crash_backoff_max",
        "cuda_visible_devices",  # which GPUs there are is decided; a worker uses none
        "events_stream",
        "gates",
        "gpu_by_uuid",
        "gpu_memory_wait",
        "health_host",
        "health_port",
        "install_concurrency",
        "log_archives",
        "log_compress",
        "log_max_age_days",
        "log_max_mb",
        "min_healthy",
        "mock_gpus",
        "models_cache",
        "models_concurrency",
        "models_connections",
        "models_manifest",
        "observers",
        "output_keep_days",
        "output_keep_gb",
        "on_failed",
        "services_path",
        "stall_limits",
        "state_caps",
        "status_interval",
        "tee_logs",
        "webhook_events",
        "worker_bundle_mode",
        "worker_download_sha256",
        "worker_local_path",
        "workers",
    )
)
"""Settings that say nothing to a worker, and so are no reason to start one anew."""
_WORKER_START_DEADLINE = 60.0
"""Seconds from go to registered: a connection to Redis and a look at the service."""
_WORKER_WATCHDOG = 60.0
"""Seconds. Its event loop does nothing long: what computes does so in a thread."""
_WORKER_STOP_GRACE = 3.0
"""Seconds: a worker hands its job back within a second or never."""


def service_process(
    instance: Instance,
    definition: ServiceDefinition,
    *,
    entry: ServiceEntry,
    essential: bool,
) -> ProcessSpec:
    """The process of one service instance.

    Args:
        instance: The instance.
        definition: Its service.
        entry: What the mapping says: its limits, else those of the service itself, and the files
            with its variables, after those of the service itself.
        essential: Whether the machine fails without it.

    Raises:
        ValueError: The service runs elsewhere.
    """
    if definition.process is None:
        raise ValueError(definition.name)
    folders = definition.directories(instance) if definition.directories else ()
    command = definition.process(instance)
    if entry.limits != Limits():
        command = attrs.evolve(command, limits=entry.limits)
    if entry.env_files:
        workspace = instance.paths.workspace
        files = (attrs.evolve(file, path=workspace / file.path) for file in entry.env_files)
        command = attrs.evolve(command, env_files=(*command.env_files, *files))
    return ProcessSpec(
        name=instance.id,
        role=Role.SERVICE,
        command=command,
        host=reachable_host(instance.host),
        port=instance.port or None,
        readiness=definition.readiness,
        start_deadline=definition.start_deadline,
        restart=definition.restart,
        stop=definition.stop,
        essential=essential,
        instance=instance.id,
        gpu=instance.gpu.index if instance.gpu else None,
        directories=(instance.data, *folders),
        port_variable=base_port_variable(definition) if definition.ports else "",
    )


def worker_process(
    worker: WorkerPlan,
    driven: Sequence[tuple[Instance, ServiceDefinition]],
    secrets: Sequence[str],
    *,
    hardware: Hardware,
    settings: Settings,
    paths: Paths,
    machine_id: str,
    essential: bool,
    bundle: WorkerBundle | None,
) -> ProcessSpec:
    """The process of one worker. It is spawned at once and stands by until its services are ready.

    Args:
        worker: The worker.
        driven: The instances it drives, with their definitions.
        secrets: Names of the secret variables it gets.
        hardware: For what it tells of the machine.
        settings: Those that differ from their defaults are handed on.
        paths: For the control socket.
        machine_id: Id of the machine.
        essential: Whether the machine fails without it.
        bundle: What it can load beside what is installed.
    """
    warm_ups = _warm_ups(driven, settings)
    env = {
        **_options(driven),
        **_settings_of_workers(settings),
        **connector_variables(driven),
        **_machine(worker, driven, hardware),
        **({VARIABLE: warm_ups_text(warm_ups)} if warm_ups else {}),
        **({BUNDLE_FOLDER: str(bundle.folder)} if bundle else {}),
        "WORKER_ID": worker.id,
        "MACHINE_ID": machine_id,
        "CONNECTORS": worker.type,
        "WORKER_PROCESS": worker.process,
        "WORKER_ROUTES": json.dumps(
            [
                {"asks": asked, "service": service, "connector": worker.connectors[service]}
                for asked, service in worker.capabilities.items()
            ]
        ),
        "MACHINE_CONTROL_SOCKET": str(paths.control_socket),
    }
    module = [sys.executable, "-m", "machine_lifecycle"]
    return ProcessSpec(
        name=worker.process,
        role=Role.WORKER,
        command=Command(
            argv=(*module, "redis-worker", f"--index={worker.index}"),
            env=env,
            secrets=tuple(secrets),
        ),
        readiness=(LinkReady(),),
        start_deadline=_WORKER_START_DEADLINE + sum(one.timeout for one in warm_ups.values()),
        needs=worker.instances,
        standby=True,
        stop=StopPolicy(signal="SIGTERM", grace=_WORKER_STOP_GRACE),
        essential=essential,
        instance=worker.instances[0] if worker.instances else "",
        gpu=worker.gpu,
        watchdog=_WORKER_WATCHDOG,
    )


def _warm_ups(
    driven: Sequence[tuple[Instance, ServiceDefinition]], settings: Settings
) -> dict[str, WarmUp]:
    """By service: the setting ``{SERVICE}_WARMUP``, else what the mapping says."""
    files = {
        instance.service: instance.settings.get(
            f"{definition.name.upper().replace('-', '_')}_{WARM_UP_OPTION.upper()}", ""
        )
        or instance.options.get(WARM_UP_OPTION, "")
        for instance, definition in driven
    }
    return {
        service: WarmUp(file=Path(file), timeout=settings.comfyui_warmup_timeout)
        for service, file in files.items()
        if file
    }


def _settings_of_workers(settings: Settings) -> dict[str, str]:
    env = settings_env(settings)
    of_machine = {info.env[0] for info in setting_info() if info.field in _OF_THE_MACHINE}
    return {name: value for name, value in env.items() if name not in of_machine}


def _options(driven: Sequence[tuple[Instance, ServiceDefinition]]) -> Mapping[str, str]:
    """What the mapping says to a service's connector; a setting of the same name counts more."""
    return {
        f"{definition.name.upper().replace('-', '_')}_{name.upper()}": instance.options[name]
        for instance, definition in driven
        for name in CONNECTOR_OPTIONS
        if instance.options.get(name)
    }


def connector_variables(
    driven: Sequence[tuple[Instance, ServiceDefinition]],
) -> Mapping[str, str]:
    """The variables that tell a connector where its instance is."""
    env: dict[str, str] = {}
    for instance, definition in driven:
        prefix = definition.name.upper().replace("-", "_")
        host = reachable_host(instance.host)
        env[f"{prefix}_HOST"] = "localhost" if host in {"127.0.0.1", "::1"} else host
        env[f"{prefix}_PORT"] = str(instance.port)
        if definition.connector_env is not None:
            env |= definition.connector_env(instance)
    return env


def _machine(
    worker: WorkerPlan,
    driven: Sequence[tuple[Instance, ServiceDefinition]],
    hardware: Hardware,
) -> dict[str, str]:
    gpu = next((instance.gpu for instance, _ in driven if instance.gpu), None)
    env = {"WORKER_RAM_GB": str(round(hardware.memory_mib / _MIB_PER_GIB))}
    if gpu is not None and worker.gpu is not None:
        env["WORKER_GPU_MEMORY_GB"] = str(round(gpu.memory_mib / _MIB_PER_GIB))
        env["WORKER_GPU_MODEL"] = gpu.name
    return env
