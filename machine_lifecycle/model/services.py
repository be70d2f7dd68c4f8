"""What a service is, and one running instance of it."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from pathlib import Path

import attrs

from machine_lifecycle.model.hardware import Gpu
from machine_lifecycle.model.paths import Paths
from machine_lifecycle.model.processes import Command, Readiness, RestartPolicy, StopPolicy

__all__ = ["Binding", "Instance", "Ports", "ServiceDefinition"]


class Binding(Enum):
    """What an instance of a service is bound to, and so what a count in ``WORKERS`` means.

    The words are those of the service mapping's ``resource_binding``.
    """

    GPU = "gpu"
    """One GPU each; the count is per GPU."""
    MOCK_GPU = "mock_gpu"
    """One simulated GPU each, in turn; the count is the total."""
    CPU = "cpu"
    """The machine's processors; one instance, whatever the count."""
    SHARED = "shared"
    """Nothing of this machine; the count is the total."""


@attrs.frozen(kw_only=True)
class Ports:
    """Which ports the instances of a service listen on: ``base + increment * index``.

    Attributes:
        setting: Name of the setting that overrides the base, or empty.
    """

    base: int
    increment: int = 1
    setting: str = ""


@attrs.frozen(kw_only=True)
class Instance:
    """One instance of a service, as its ``process`` function sees it.

    Attributes:
        id: Also the name of its process: ``comfyui-gpu0``, ``comfyui-gpu0-1`` for a second one.
        service: Name of the service.
        index: Among the instances of this service, from 0.
        gpu: The GPU it is bound to, or ``None``.
        host: Address it listens on.
        port: Port it listens on; 0 for a service that runs elsewhere.
        paths: The machine's folders.
        home: The folder where the service is installed.
        data: A folder of this instance's own (outputs, temporary files, user data).
        options: The mapping's ``installer_config`` and the like, expanded.
        settings: Settings that the service may read, by variable name; no secrets.
    """

    id: str
    service: str
    index: int
    gpu: Gpu | None
    host: str
    port: int
    paths: Paths
    home: Path
    data: Path
    options: dict[str, str] = attrs.field(factory=dict)
    settings: dict[str, str] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class ServiceDefinition:
    """A service: how it is installed, started, probed, driven and stopped, as one value.

    Attributes:
        name: As in the service mapping and in ``WORKERS``.
        summary: One line for people.
        capabilities: What jobs may ask of it.
        connector: ``module:attribute`` of the connector class.
        installer: ``module:attribute`` of the installer, empty for none. A class is called without
            arguments.
        process: The command of one instance; ``None`` for a service that runs elsewhere.
        binding: What an instance is bound to.
        ports: ``None`` for a service that listens nowhere here.
        readiness: All must hold, in order.
        start_deadline: Seconds from spawn to readiness.
        restart: When an instance is started again.
        stop: How an instance is asked to end.
        required_env: Variables without which it can't work.
        modules: Python modules that its process imports from where the machine runs, each with what
            pip is to be asked for where it is missing.
        secrets: Names of secret variables that its workers get where they are set; one that must
            be set is in ``required_env`` too.
        aliases: Names of connectors and installers by which a service mapping refers to it.
        connector_env: Variables that tell the worker's connector where this instance is, beside
            ``{NAME}_HOST`` and ``{NAME}_PORT``.
        directories: Folders that must exist before an instance is spawned.
    """

    name: str
    summary: str
    capabilities: tuple[str, ...]
    connector: str
    installer: str = ""
    process: Callable[[Instance], Command] | None = None
    binding: Binding = Binding.SHARED
    ports: Ports | None = None
    readiness: tuple[Readiness, ...] = ()
    start_deadline: float = 60.0
    restart: RestartPolicy = RestartPolicy()
    stop: StopPolicy = StopPolicy()
    required_env: tuple[str, ...] = ()
    modules: tuple[tuple[str, str], ...] = ()
    secrets: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    connector_env: Callable[[Instance], dict[str, str]] | None = None
    directories: Callable[[Instance], tuple[Path, ...]] | None = None
