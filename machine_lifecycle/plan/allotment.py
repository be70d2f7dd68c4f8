"""How many workers an item of WORKERS becomes, and which GPU each gets."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from machine_lifecycle.model.catalogue import AUTO, ServiceEntry, WorkerEntry, WorkerRequest
from machine_lifecycle.model.hardware import Gpu, GpuSource, Hardware
from machine_lifecycle.model.services import Binding, ServiceDefinition
from machine_lifecycle.model.settings import Settings
from machine_lifecycle.plan.errors import NoGpu, TooManyInstances
from machine_lifecycle.plan.simulated import simulated_gpus

__all__ = ["Driven", "allot"]

_ORDER = (Binding.GPU, Binding.MOCK_GPU, Binding.CPU, Binding.SHARED)


@attrs.frozen(kw_only=True)
class Driven:
    """A service as one worker type drives it."""

    entry: ServiceEntry
    definition: ServiceDefinition
    binding: Binding

    @classmethod
    def of(cls, entry: ServiceEntry, definition: ServiceDefinition, worker: WorkerEntry) -> Driven:
        """The mapping decides on the binding, then the definition.

        A worker that the mapping calls GPU-bound makes its unbound local services so.
        """
        binding = entry.binding or definition.binding
        loose = entry.binding is None and binding in {Binding.CPU, Binding.SHARED}
        if worker.gpu_bound and loose and definition.process is not None:
            binding = Binding.GPU
        return cls(entry=entry, definition=definition, binding=binding)


def allot(
    request: WorkerRequest,
    services: Sequence[Driven],
    hardware: Hardware,
    settings: Settings,
) -> tuple[Gpu | None, ...]:
    """The GPU of each worker that *request* becomes, in order of index; ``None`` for no GPU.

    The first worker of each GPU comes before the second ones, so that asking for more later
    renumbers nobody.

    Raises:
        NoGpu: A GPU is needed and there is none.
        TooManyInstances: The mapping allows fewer.
    """
    local = [one for one in services if one.definition.process is not None]
    binding = min((one.binding for one in local), key=_ORDER.index, default=Binding.SHARED)
    auto = request.count == AUTO
    count = 1 if auto else int(request.count)
    if binding is Binding.GPU:
        if not hardware.gpus:
            raise _no_gpu(request, hardware)
        per_gpu = max(one.entry.per_gpu for one in local if one.binding is Binding.GPU)
        return hardware.gpus * (count * per_gpu)
    limits = [one.entry for one in local if one.entry.per_machine is not None]
    limit = min(limits, key=lambda entry: entry.per_machine or 0, default=None)
    allowed = limit.per_machine if limit and limit.per_machine else None
    if binding is Binding.CPU:
        return (None,)
    mocks = hardware.gpus if hardware.simulated else simulated_gpus(settings)
    if binding is Binding.MOCK_GPU and not mocks:
        raise _no_gpu(request, hardware)
    if auto:
        count = len(mocks) if binding is Binding.MOCK_GPU else 1
        count = min(count, allowed or count)
    if allowed is not None and limit is not None and count > allowed:
        raise TooManyInstances(
            worker=request.worker, asked=count, allowed=allowed, service=limit.name
        )
    if binding is Binding.SHARED:
        return (None,) * count
    return tuple(mocks[index % len(mocks)] for index in range(count))


def _no_gpu(request: WorkerRequest, hardware: Hardware) -> NoGpu:
    source = hardware.source.value
    if hardware.source is GpuSource.NONE:
        source = "asked NVML and nvidia-smi"
    looked = (source, *hardware.notes)
    return NoGpu(workers=f"{request.worker}:{request.count}", looked=looked)
