"""Which GPUs this machine has: simulated, NVML, ``nvidia-smi``, simulated, none, in this order."""

from __future__ import annotations

import asyncio
import os
import subprocess

import attrs
import psutil

from machine_lifecycle.model.hardware import Gpu, GpuSource, Hardware
from machine_lifecycle.model.settings import GpuMode, Settings
from machine_lifecycle.plan.simulated import simulated_gpus
from machine_lifecycle.system.nvml import Device, Inventory, Nvml, RealNvml

__all__ = ["Gpus", "detect", "visible_gpus"]

_BYTES_PER_MIB = 1024 * 1024
_SMI_TIMEOUT = 20.0
"""Seconds. A healthy driver answers within three, without persistence mode too."""
_SMI_QUERY = "--query-gpu=index,name,memory.total,uuid"


@attrs.frozen(kw_only=True)
class Gpus:
    """Looks at the machine.

    Attributes:
        settings: Whether GPUs are simulated, and which may be used.
        nvml: Asks the driver.
        smi: The ``nvidia-smi`` program.
    """

    settings: Settings
    nvml: Nvml = attrs.field(factory=RealNvml)
    smi: str = "nvidia-smi"

    async def detect(self) -> Hardware:
        """What there is. In a thread: a driver that wakes up may take seconds."""
        return await asyncio.to_thread(detect, self.settings, self.nvml, self.smi)


def detect(settings: Settings, nvml: Nvml | None = None, smi: str = "nvidia-smi") -> Hardware:
    """What there is. A driver that is absent or broken becomes a note, never an error."""
    if settings.gpu_mode is GpuMode.MOCK:
        return _hardware(simulated_gpus(settings), GpuSource.MOCK, ("GPU_MODE=mock",))
    notes: list[str] = []
    found = (nvml or RealNvml()).inventory()
    source = GpuSource.NVML
    if isinstance(found, str):
        notes.append(found)
        found, source = _ask_smi(smi), GpuSource.NVIDIA_SMI
    if isinstance(found, str):
        notes.append(found)
    else:
        notes += found.notes
        gpus, remarks = visible_gpus(found.devices, settings.cuda_visible_devices)
        notes += remarks
        if settings.gpu_by_uuid:
            gpus = tuple(attrs.evolve(gpu, visible=gpu.uuid) for gpu in gpus)
        if gpus:
            return _hardware(gpus, source, tuple(notes), found.driver)
        if not found.devices:
            notes.append(f"{source.value} knows of no GPU")
    if settings.mock_gpus:
        notes.append(f"MOCK_GPU_NUM={settings.mock_gpus}, as no real GPU was found")
        return _hardware(simulated_gpus(settings), GpuSource.MOCK, tuple(notes))
    return _hardware((), GpuSource.NONE, tuple(notes))


def _hardware(
    gpus: tuple[Gpu, ...], source: GpuSource, notes: tuple[str, ...], driver: str = ""
) -> Hardware:
    return Hardware(
        gpus=gpus,
        source=source,
        cpus=_cpus(),
        memory_mib=psutil.virtual_memory().total // _BYTES_PER_MIB,
        driver=driver,
        notes=notes,
    )


def _cpus() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _ask_smi(program: str) -> Inventory | str:
    command = [program, _SMI_QUERY, "--format=csv,noheader,nounits"]
    try:
        ended = subprocess.run(
            command, capture_output=True, text=True, timeout=_SMI_TIMEOUT, check=False
        )
    except FileNotFoundError:
        return "there is no nvidia-smi"
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"nvidia-smi: {error}"
    if ended.returncode:
        said = (ended.stderr.strip() or ended.stdout.strip()).splitlines()
        return f"nvidia-smi: exit status {ended.returncode}: {said[0] if said else 'no word'}"
    devices: list[Device] = []
    notes: list[str] = []
    for line in filter(None, (line.strip() for line in ended.stdout.splitlines())):
        device = _smi_line(line)
        if device is None:
            notes.append(f"nvidia-smi said {line!r}, which is not understood")
        else:
            devices.append(device)
    return Inventory(devices=tuple(devices), driver="", notes=tuple(notes))


def _smi_line(line: str) -> Device | None:
    # A model's name could hold a comma; the other three can't.
    head, _, rest = line.partition(",")
    name, memory, uuid = ([part.strip() for part in rest.rsplit(",", 2)] + ["", ""])[:3]
    if not head.strip().isdigit() or not uuid.startswith("GPU-"):
        return None
    # `[N/A]` where the GPU shares the processor's memory.
    mib = int(memory) if memory.isdigit() else 0
    return Device(index=int(head), name=name, uuid=uuid, memory_mib=mib)


def visible_gpus(
    devices: tuple[Device, ...], allowed: str | None
) -> tuple[tuple[Gpu, ...], tuple[str, ...]]:
    """The GPUs that this machine may use, and what is to be said of the others.

    Args:
        devices: Every GPU.
        allowed: ``CUDA_VISIBLE_DEVICES``; ``None`` if it is not set. As CUDA reads it: numbers,
            or beginnings of UUIDs; empty hides all; the list ends at the first entry that names
            none.
    """
    if allowed is None:
        units = [one for device in devices for one in device.slices or (device,)]
        chosen = [(unit, unit.uuid if unit.uuid.startswith("MIG-") else "") for unit in units]
        return _gpus(chosen), ()
    chosen = []
    notes: list[str] = []
    entries = [entry.strip() for entry in allowed.split(",")] if allowed.strip() else []
    for entry in entries:
        unit = _named(devices, entry)
        if unit is None:
            notes.append(f"CUDA_VISIBLE_DEVICES={allowed}: the list ends at `{entry}`, as in CUDA")
            break
        if any(unit.uuid == before.uuid for before, _ in chosen):
            # CUDA gives no device at all where one is named twice.
            notes.append(f"CUDA_VISIBLE_DEVICES={allowed}: `{entry}` is there twice: none is left")
            return (), tuple(notes)
        chosen.append((unit, entry))
    if not chosen:
        notes.append(f"CUDA_VISIBLE_DEVICES={allowed!r} hides every GPU")
    return _gpus(chosen), tuple(notes)


def _named(devices: tuple[Device, ...], entry: str) -> Device | None:
    if entry.isascii() and entry.isdigit():
        device = next((one for one in devices if one.index == int(entry)), None)
        # The number of a GPU that is cut into slices stands for its first slice.
        return device.slices[0] if device and device.slices else device
    if not entry.startswith(("GPU-", "MIG-")):
        return None
    units = [one for device in devices for one in (device, *device.slices)]
    matches = [one for one in units if one.uuid.startswith(entry)]
    if len(matches) != 1:
        return None
    return matches[0].slices[0] if matches[0].slices else matches[0]


def _gpus(chosen: list[tuple[Device, str]]) -> tuple[Gpu, ...]:
    return tuple(
        Gpu(
            index=index,
            name=unit.name,
            memory_mib=unit.memory_mib,
            uuid=unit.uuid,
            # A child sees the inherited names, so it is told one of them, not our count.
            visible=token or str(unit.index),
        )
        for index, (unit, token) in enumerate(chosen)
    )
