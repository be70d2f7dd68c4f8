"""What the machine has: GPUs, processors, memory."""

from __future__ import annotations

from enum import Enum

import attrs

__all__ = ["Gpu", "GpuSource", "Hardware"]


class GpuSource(Enum):
    """Who said which GPUs there are."""

    NVML = "nvml"
    NVIDIA_SMI = "nvidia-smi"
    MOCK = "mock"
    NONE = "none"


@attrs.frozen(kw_only=True)
class Gpu:
    """One GPU, or one MIG slice of a GPU.

    Attributes:
        index: Position among the GPUs that this machine may use, from 0.
        name: Model, as the driver tells it.
        memory_mib: Memory in MiB.
        uuid: ``GPU-…`` or ``MIG-…``; ``MOCK-…`` for a simulated one.
        visible: What ``CUDA_VISIBLE_DEVICES`` must say so that a process sees this one alone.
    """

    index: int
    name: str
    memory_mib: int
    uuid: str
    visible: str

    @property
    def simulated(self) -> bool:
        """Whether it is not real."""
        return self.uuid.startswith("MOCK-")


@attrs.frozen(kw_only=True)
class Hardware:
    """The machine as detected, or as simulated.

    Attributes:
        gpus: In order of index.
        source: Who said so.
        cpus: Processors this process may run on.
        memory_mib: Memory in MiB.
        driver: Version of the GPU driver, empty where there is none.
        notes: What a reader of the plan should know, such as a driver that could not be asked.
    """

    gpus: tuple[Gpu, ...] = ()
    source: GpuSource = GpuSource.NONE
    cpus: int = 1
    memory_mib: int = 0
    driver: str = ""
    notes: tuple[str, ...] = ()

    @property
    def simulated(self) -> bool:
        """Whether the GPUs are not real."""
        return self.source is GpuSource.MOCK
