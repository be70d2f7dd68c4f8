"""The service mapping, in one normal form whatever shape its file has."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from machine_lifecycle.model.limits import Limits
from machine_lifecycle.model.processes import EnvFile
from machine_lifecycle.model.services import Binding

__all__ = [
    "AUTO",
    "NO_INSTALLER",
    "JobRoute",
    "ServiceEntry",
    "ServiceMapping",
    "WorkerEntry",
    "WorkerRequest",
]

AUTO = "auto"
NO_INSTALLER = "none"
"""What ``ServiceEntry.installer`` says where a mapping has ``null``."""


@attrs.frozen(kw_only=True)
class WorkerRequest:
    """One item of ``WORKERS``.

    Attributes:
        worker: Worker type of the service mapping, or ``module:attribute`` of a definition.
        count: At least 1, or ``"auto"``.
    """

    worker: str
    count: int | str


@attrs.frozen(kw_only=True)
class JobRoute:
    """A capability that jobs ask for, and the service that does them."""

    asks: str
    service: str


@attrs.frozen(kw_only=True)
class ServiceEntry:
    """One service of the mapping.

    Attributes:
        name: Unique in the mapping.
        connector: As written: ``ComfyUIConnector``; empty if the file names none.
        installer: As written: ``installComfyUI``; ``none`` for null; empty leaves it to the
            service's definition.
        external: Runs elsewhere: nothing is installed or started here.
        binding: ``None`` where the file leaves it to the service's definition.
        per_gpu: Instances per GPU, at least 1.
        per_machine: Instances per machine, or ``None``.
        base_port: ``None`` where the file leaves it to the definition.
        port_increment: Likewise.
        required_env: Variables without which it can't work.
        options: ``installer_config`` and ``api_config``, expanded.
        limits: What each of its processes may take of the host.
        env_files: Files with further variables of its processes; relative ones lie in the
            workspace.
    """

    name: str
    connector: str = ""
    installer: str = ""
    external: bool = False
    binding: Binding | None = None
    per_gpu: int = 1
    per_machine: int | None = None
    base_port: int | None = None
    port_increment: int | None = None
    required_env: tuple[str, ...] = ()
    options: Mapping[str, str] = attrs.field(factory=dict)
    limits: Limits = Limits()
    env_files: tuple[EnvFile, ...] = ()


@attrs.frozen(kw_only=True)
class WorkerEntry:
    """One worker type of the mapping.

    Attributes:
        name: As in ``WORKERS``.
        services: Names of the services its workers drive.
        routes: Which job goes to which of them.
        gpu_bound: Whether the file says so itself (``is_gpu_bound``); ``None`` if it is silent.
        required_env: Variables without which it can't work.
    """

    name: str
    services: tuple[str, ...]
    routes: tuple[JobRoute, ...]
    gpu_bound: bool | None = None
    required_env: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class ServiceMapping:
    """A service mapping, checked.

    Attributes:
        workers: By name.
        services: By name.
        source: File it was read from, for messages.
        warnings: What may not be meant as written.
    """

    workers: Mapping[str, WorkerEntry]
    services: Mapping[str, ServiceEntry]
    source: str
    warnings: tuple[str, ...] = ()
