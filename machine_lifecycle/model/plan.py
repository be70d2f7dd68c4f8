"""The boot plan: everything that will run, decided before anything does."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from machine_lifecycle.model.bundle import WorkerBundle
from machine_lifecycle.model.hardware import Hardware
from machine_lifecycle.model.processes import ProcessSpec
from machine_lifecycle.model.services import Instance

__all__ = ["BootPlan", "InstallPlan", "WorkerPlan"]


@attrs.frozen(kw_only=True)
class InstallPlan:
    """A service that must be on disk before it can start.

    Attributes:
        service: Its name.
        installer: Name of the installer; empty for a service that needs none.
        options: The mapping's ``installer_config``, expanded.
    """

    service: str
    installer: str
    options: Mapping[str, str] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class WorkerPlan:
    """One worker: which instance it drives and what it may be asked.

    Attributes:
        id: Unique in the fleet: ``{MACHINE_ID}-worker-comfyui-0``.
        process: Name of its process: ``redis-worker-comfyui-0``.
        type: Worker type of the mapping.
        index: Among the workers of this type, from 0.
        instances: Ids of the service instances it drives; empty for services that run elsewhere.
        capabilities: What jobs may ask of it, each with the service that does it.
        connectors: Service name to ``module:attribute`` of the connector that drives it.
        gpu: Index of the GPU its service is bound to, or ``None``.
    """

    id: str
    process: str
    type: str
    index: int
    instances: tuple[str, ...]
    capabilities: Mapping[str, str]
    connectors: Mapping[str, str]
    gpu: int | None = None


@attrs.frozen(kw_only=True)
class BootPlan:
    """What a boot will install, start and wait for. Equal inputs give equal plans.

    Attributes:
        machine_id: Unique in the fleet.
        hardware: As detected when the plan was made.
        installs: One per service, in order.
        instances: Every instance of every service that runs here.
        processes: Every process, in the order they are listed to people; starts follow ``needs``.
        workers: Every worker.
        bundle: What they can load beside what is installed; ``None``: nothing.
        digest: Hex digest of all of the above.
    """

    machine_id: str
    hardware: Hardware
    installs: tuple[InstallPlan, ...] = ()
    instances: tuple[Instance, ...] = ()
    processes: tuple[ProcessSpec, ...] = ()
    workers: tuple[WorkerPlan, ...] = ()
    bundle: WorkerBundle | None = None
    digest: str = ""

    @property
    def capabilities(self) -> tuple[str, ...]:
        """Everything that jobs may ask of this machine, once each, in order."""
        return tuple(dict.fromkeys(name for worker in self.workers for name in worker.capabilities))

    @property
    def listing(self) -> tuple[str, ...]:
        """Names of everything that runs, ourselves first, as listed to people."""
        return ("health-server", *(process.name for process in self.processes))
