"""NVIDIA's management library. The one module that imports ``pynvml``."""

from __future__ import annotations

from typing import Any, Protocol

import attrs

__all__ = [
    "Device",
    "GpuMemory",
    "Inventory",
    "Nvml",
    "RealNvml",
    "memory_by_process",
    "memory_of",
]

_BYTES_PER_MIB = 1024 * 1024


@attrs.frozen(kw_only=True)
class Device:
    """A GPU or a MIG slice, as the driver tells of it.

    Attributes:
        index: The driver's number of the GPU.
        uuid: ``GPU-…`` or ``MIG-…``.
        memory_mib: Memory in MiB; 0 where the driver does not say.
        slices: MIG slices; empty where the GPU is whole.
    """

    index: int
    name: str
    uuid: str
    memory_mib: int
    slices: tuple[Device, ...] = ()


@attrs.frozen(kw_only=True)
class Inventory:
    """Every GPU that the driver knows.

    Attributes:
        notes: GPUs that could not be asked, each with the reason.
    """

    devices: tuple[Device, ...]
    driver: str
    notes: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class GpuMemory:
    """What one GPU or MIG slice has in use.

    Attributes:
        used: Bytes.
        total: Bytes.
        holders: Numbers of the processes that hold some, each with its bytes. In a container with
            process numbers of its own the driver tells those of the host.
    """

    used: int
    total: int
    holders: tuple[tuple[int, int], ...] = ()


class Nvml(Protocol):
    """Asks the driver. Called once per boot attempt, in a thread."""

    def inventory(self) -> Inventory | str:
        """What there is; or, in words, why that can't be told. Never raises."""


class RealNvml:
    """The library that comes with the driver."""

    def inventory(self) -> Inventory | str:
        """What the driver knows; or why it can't be asked."""
        try:
            import pynvml  # noqa: PLC0415 - only where hardware is looked at
        except ImportError as error:
            return f"NVML: {error}"
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError as error:
            return f"NVML: {error}"
        try:
            return _inventory(pynvml)
        except pynvml.NVMLError as error:
            return f"NVML: {error}"
        finally:
            pynvml.nvmlShutdown()


def _inventory(nvml: Any) -> Inventory:
    devices: list[Device] = []
    notes: list[str] = []
    for index in range(nvml.nvmlDeviceGetCount()):
        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
            devices.append(_device(nvml, handle, index, _slices(nvml, handle, index)))
        except nvml.NVMLError as error:
            # One GPU that fell off the bus must not hide the others.
            notes.append(f"NVML: GPU {index}: {error}")
    return Inventory(
        devices=tuple(devices),
        driver=_text(nvml.nvmlSystemGetDriverVersion()),
        notes=tuple(notes),
    )


def memory_by_process() -> dict[int, int]:
    """Bytes that each process holds on all GPUs; empty where the driver can't be asked or tells
    nothing. In a container with process numbers of its own it tells those of the host. Takes some
    milliseconds.
    """
    try:
        import pynvml  # noqa: PLC0415 - only where there are GPUs
    except ImportError:
        return {}
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return {}
    try:
        return _memory_by_process(pynvml)
    finally:
        pynvml.nvmlShutdown()


def memory_of(uuid: str) -> GpuMemory | None:
    """What a GPU or MIG slice has in use; ``None`` where the driver can't be asked, does not know
    it, or tells nothing. Takes some milliseconds, without persistence mode up to seconds.
    """
    try:
        import pynvml  # noqa: PLC0415 - only where there are GPUs
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    try:
        handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
        return GpuMemory(
            used=int(memory.used), total=int(memory.total), holders=_holders(pynvml, handle)
        )
    except pynvml.NVMLError:
        return None
    finally:
        pynvml.nvmlShutdown()


def _holders(nvml: Any, handle: Any) -> tuple[tuple[int, int], ...]:
    try:
        processes = nvml.nvmlDeviceGetComputeRunningProcesses(handle)
    except nvml.NVMLError:
        return ()  # one that can't tell
    return tuple(
        (process.pid, int(process.usedGpuMemory))
        for process in processes
        if process.usedGpuMemory is not None
    )


def _memory_by_process(nvml: Any) -> dict[int, int]:
    held: dict[int, int] = {}
    for index in range(nvml.nvmlDeviceGetCount()):
        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
        except nvml.NVMLError:
            continue  # one that fell off the bus
        for pid, size in _holders(nvml, handle):
            held[pid] = held.get(pid, 0) + size
    return held


def _device(nvml: Any, handle: Any, index: int, slices: tuple[Device, ...]) -> Device:
    try:
        memory = int(nvml.nvmlDeviceGetMemoryInfo(handle).total) // _BYTES_PER_MIB
    except nvml.NVMLError:
        # GPUs that share the processor's memory (GB10, Jetson) have none of their own to tell of.
        memory = 0
    return Device(
        index=index,
        name=_text(nvml.nvmlDeviceGetName(handle)),
        uuid=_text(nvml.nvmlDeviceGetUUID(handle)),
        memory_mib=memory,
        slices=slices,
    )


def _slices(nvml: Any, handle: Any, index: int) -> tuple[Device, ...]:
    try:
        mode, _ = nvml.nvmlDeviceGetMigMode(handle)
    except nvml.NVMLError:
        return ()
    if mode != nvml.NVML_DEVICE_MIG_ENABLE:
        return ()
    slices = []
    for number in range(nvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
        try:
            part = nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, number)
        except nvml.NVMLError:
            # Numbers have gaps where slices were taken away.
            continue
        slices.append(_device(nvml, part, index, ()))
    return tuple(slices)


def _text(value: str | bytes) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value
