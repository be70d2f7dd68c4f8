"""NVIDIA's management library. The one module that imports ``pynvml``."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Protocol

import attrs

__all__ = [
    "Device",
    "GpuMemory",
    "GpuUse",
    "Inventory",
    "Library",
    "Nvml",
    "RealNvml",
    "XidEvent",
    "memory_of",
    "use_by_process",
    "xid_events",
]

_BYTES_PER_MIB = 1024 * 1024
_RECENT = 1_000_000
"""Microseconds for which a sample of a process's use tells how it is now: the driver samples some
six times a second."""
_WHOLE = 0xFFFFFFFF
"""The instance that an event names where the GPU is not cut into slices."""
_OFF_THE_BUS = 79


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


@attrs.frozen(kw_only=True)
class GpuUse:
    """What one process does on all GPUs.

    Attributes:
        memory: Bytes that it holds.
        percent: Share of a GPU's time, so that two busy GPUs are 200; ``None`` where the driver
            doesn't tell it by process, as of MIG slices.
    """

    memory: int
    percent: float | None = None


@attrs.frozen(kw_only=True)
class XidEvent:
    """A critical error of a GPU, as the driver tells it when it happens.

    Attributes:
        number: The Xid.
        uuids: The GPU, and those of its MIG slices that it is about.
    """

    number: int
    uuids: tuple[str, ...]


class Nvml(Protocol):
    """Asks the driver. Called once per boot attempt, in a thread."""

    def inventory(self) -> Inventory | str:
        """What there is; or, in words, why that can't be told. Never raises."""


class Library(Protocol):
    """What is called of NVIDIA's library, under its own names: ``pynvml`` is one. Handles are its
    own, and errors are its ``NVMLError`` and the subclasses named here.
    """

    NVMLError: type[Exception]
    NVMLError_GpuIsLost: type[Exception]
    NVMLError_NotFound: type[Exception]
    NVMLError_Timeout: type[Exception]
    NVML_DEVICE_MIG_ENABLE: int
    nvmlEventTypeXidCriticalError: int

    nvmlInit: Callable[[], object]
    nvmlShutdown: Callable[[], object]
    nvmlSystemGetDriverVersion: Callable[[], str | bytes]
    nvmlDeviceGetCount: Callable[[], int]
    nvmlDeviceGetHandleByIndex: Callable[[int], Any]
    nvmlDeviceGetHandleByUUID: Callable[[str], Any]
    nvmlDeviceGetName: Callable[[Any], str | bytes]
    nvmlDeviceGetUUID: Callable[[Any], str | bytes]
    nvmlDeviceGetMemoryInfo: Callable[[Any], Any]
    nvmlDeviceGetComputeRunningProcesses: Callable[[Any], Iterable[Any]]
    nvmlDeviceGetProcessUtilization: Callable[[Any, int], Iterable[Any]]
    nvmlDeviceGetMigMode: Callable[[Any], Sequence[int]]
    nvmlDeviceGetMaxMigDeviceCount: Callable[[Any], int]
    nvmlDeviceGetMigDeviceHandleByIndex: Callable[[Any, int], Any]
    nvmlDeviceGetGpuInstanceId: Callable[[Any], int]
    nvmlEventSetCreate: Callable[[], Any]
    nvmlDeviceRegisterEvents: Callable[[Any, int, Any], object]
    nvmlEventSetWait_v2: Callable[[Any, int], Any]
    nvmlEventSetFree: Callable[[Any], object]


@attrs.frozen
class RealNvml:
    """The library that comes with the driver.

    Attributes:
        library: Asked instead of ``pynvml``.
    """

    library: Library | None = None

    def inventory(self) -> Inventory | str:
        """What the driver knows; or why it can't be asked."""
        try:
            with _driver(self.library) as nvml:
                return _inventory(nvml)
        except _Unanswered as error:
            return f"NVML: {error}"


class _Unanswered(Exception):
    """The driver can't be asked, or does not answer."""


@contextmanager
def _driver(library: Library | None) -> Iterator[Library]:
    """The library, opened; ``pynvml`` if none is given.

    Raises:
        _Unanswered: It is not there, or something that was asked of it within went wrong.
    """
    nvml = library or _installed()
    try:
        nvml.nvmlInit()
        try:
            yield nvml
        finally:
            nvml.nvmlShutdown()
    except nvml.NVMLError as error:
        raise _Unanswered(str(error)) from error


def _installed() -> Library:
    try:
        import pynvml  # noqa: PLC0415 - only where hardware is looked at
    except ImportError as error:
        raise _Unanswered(str(error)) from error
    library: Library = pynvml
    return library


def _inventory(nvml: Library) -> Inventory:
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


def use_by_process(library: Library | None = None) -> dict[int, GpuUse]:
    """What each process does on the GPUs; empty where the driver can't be asked or tells nothing.
    In a container with process numbers of its own it tells those of the host. Takes some
    milliseconds.
    """
    with suppress(_Unanswered), _driver(library) as nvml:
        return _use_by_process(nvml)
    return {}


def memory_of(uuid: str, library: Library | None = None) -> GpuMemory | None:
    """What a GPU or MIG slice has in use; ``None`` where the driver can't be asked, does not know
    it, or tells nothing. Takes some milliseconds, without persistence mode up to seconds.
    """
    with suppress(_Unanswered), _driver(library) as nvml:
        handle = nvml.nvmlDeviceGetHandleByUUID(uuid)
        memory = nvml.nvmlDeviceGetMemoryInfo(handle)
        return GpuMemory(
            used=int(memory.used), total=int(memory.total), holders=_holders(nvml, handle)
        )
    return None


def xid_events(
    stopped: Callable[[], bool], patience: float = 5.0, library: Library | None = None
) -> Iterator[XidEvent]:
    """Critical errors of all GPUs, from now on. Blocks between them.

    Ends when *stopped* says so, when a GPU is lost (the driver tells no more then), and at once
    where the driver can't be asked or tells no events, as in WSL.

    Args:
        stopped: Asked after each event, and each *patience*.
        patience: Seconds.
        library: Asked instead of ``pynvml``; so it is in all of this module.
    """
    with suppress(_Unanswered), _driver(library) as nvml:
        yield from _xid_events(nvml, stopped, patience)


def _xid_events(nvml: Library, stopped: Callable[[], bool], patience: float) -> Iterator[XidEvent]:
    critical = nvml.nvmlEventTypeXidCriticalError
    heard: list[tuple[Any, str]] = []
    events = nvml.nvmlEventSetCreate()
    try:
        for index in range(nvml.nvmlDeviceGetCount()):
            with suppress(nvml.NVMLError):  # it fell off the bus before, or tells no such events
                handle = nvml.nvmlDeviceGetHandleByIndex(index)
                nvml.nvmlDeviceRegisterEvents(handle, critical, events)
                heard.append((handle, _text(nvml.nvmlDeviceGetUUID(handle))))
        while heard and not stopped():
            try:
                told = nvml.nvmlEventSetWait_v2(events, round(patience * 1000))
            except nvml.NVMLError_Timeout:
                continue
            except nvml.NVMLError_GpuIsLost:
                yield from _lost(nvml, heard)
                return
            if told.eventType == critical:
                uuids = _about(nvml, told.device, int(told.gpuInstanceId))
                yield XidEvent(number=int(told.eventData), uuids=uuids)
    finally:
        nvml.nvmlEventSetFree(events)


def _lost(nvml: Library, heard: list[tuple[Any, str]]) -> Iterator[XidEvent]:
    """The GPUs that don't answer any more."""
    for handle, uuid in heard:
        try:
            nvml.nvmlDeviceGetMemoryInfo(handle)
        except nvml.NVMLError_GpuIsLost:
            yield XidEvent(number=_OFF_THE_BUS, uuids=(uuid,))
        except nvml.NVMLError:
            continue


def _about(nvml: Library, handle: Any, gpu_instance: int) -> tuple[str, ...]:
    uuids = [_text(nvml.nvmlDeviceGetUUID(handle))]
    for part in _parts(nvml, handle):
        with suppress(nvml.NVMLError):
            if gpu_instance in {_WHOLE, nvml.nvmlDeviceGetGpuInstanceId(part)}:
                uuids.append(_text(nvml.nvmlDeviceGetUUID(part)))
    return tuple(uuids)


def _holders(nvml: Library, handle: Any) -> tuple[tuple[int, int], ...]:
    try:
        processes = nvml.nvmlDeviceGetComputeRunningProcesses(handle)
    except nvml.NVMLError:
        return ()  # one that can't tell
    return tuple(
        (process.pid, int(process.usedGpuMemory))
        for process in processes
        if process.usedGpuMemory is not None
    )


def _use_by_process(nvml: Library) -> dict[int, GpuUse]:
    found: dict[int, GpuUse] = {}
    for index in range(nvml.nvmlDeviceGetCount()):
        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
        except nvml.NVMLError:
            continue  # one that fell off the bus
        shares = _shares(nvml, handle)
        for pid, size in _holders(nvml, handle):
            before = found.get(pid, GpuUse(memory=0))
            share = None if shares is None else shares.get(pid, 0.0)
            told = [one for one in (before.percent, share) if one is not None]
            found[pid] = GpuUse(memory=before.memory + size, percent=sum(told) if told else None)
    return found


def _shares(nvml: Library, handle: Any) -> dict[int, float] | None:
    """Percent of a GPU's time by process, lately; ``None`` where the driver doesn't tell."""
    try:
        samples = nvml.nvmlDeviceGetProcessUtilization(handle, int(time.time() * 1e6) - _RECENT)
    except nvml.NVMLError_NotFound:
        return {}  # nobody did anything
    except nvml.NVMLError:
        return None
    latest: dict[int, tuple[int, float]] = {}
    for sample in samples:
        known = latest.get(sample.pid, (0, 0.0))
        latest[sample.pid] = max(known, (int(sample.timeStamp), float(sample.smUtil)))
    return {pid: percent for pid, (_, percent) in latest.items()}


def _device(nvml: Library, handle: Any, index: int, slices: tuple[Device, ...]) -> Device:
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


def _slices(nvml: Library, handle: Any, index: int) -> tuple[Device, ...]:
    return tuple(_device(nvml, part, index, ()) for part in _parts(nvml, handle))


def _parts(nvml: Library, handle: Any) -> Iterator[Any]:
    """Its MIG slices."""
    try:
        mode, _ = nvml.nvmlDeviceGetMigMode(handle)
    except nvml.NVMLError:
        return
    if mode != nvml.NVML_DEVICE_MIG_ENABLE:
        return
    for number in range(nvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
        with suppress(nvml.NVMLError):  # numbers have gaps where slices were taken away
            yield nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, number)


def _text(value: str | bytes) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value
