"""What the driver tells while the machine runs, with its own types and errors; its answers are
scripted, as a GPU that breaks can't be had.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest

from machine_lifecycle.system.nvml import (
    GpuUse,
    Inventory,
    Library,
    RealNvml,
    XidEvent,
    memory_of,
    use_by_process,
    xid_events,
)
from tests.support.nvml import CARDS, ScriptedLibrary, raising

WHOLE = 0xFFFFFFFF


@pytest.fixture(params=["scripted", pytest.param("real", marks=pytest.mark.gpu)])
def library(request: pytest.FixtureRequest) -> Library:
    """Both keep the same rules; the real one only where it finds a GPU."""
    if request.param == "scripted":
        return ScriptedLibrary()
    answer = RealNvml().inventory()
    if isinstance(answer, str) or not answer.devices:
        pytest.skip(f"no NVIDIA GPU here: {answer}")
    found: Library = pynvml
    return found


def test_every_card_is_told_with_what_it_holds(library: Library) -> None:
    inventory = RealNvml(library).inventory()
    assert isinstance(inventory, Inventory)
    assert (bool(inventory.driver), inventory.notes) == (True, ())
    for index, device in enumerate(inventory.devices):
        assert (device.index, device.uuid[:4], bool(device.name)) == (index, "GPU-", True)
        memory = memory_of(device.uuid, library)
        assert memory is not None
        assert 0 <= memory.used <= memory.total
        assert sum(size for _, size in memory.holders) <= memory.total
    assert inventory.devices


def test_nobody_knows_a_card_that_is_none(library: Library) -> None:
    assert memory_of("GPU-00000000-0000-0000-0000-000000000000", library) is None


def test_cards_that_are_well_tell_of_no_error(library: Library) -> None:
    turns = iter([False, True])
    assert list(xid_events(lambda: next(turns), patience=0.1, library=library)) == []
    assert all(pid > 0 <= use.memory for pid, use in use_by_process(library).items())


def test_it_answers_only_while_it_is_open(library: Library) -> None:
    with pytest.raises(library.NVMLError, match="Uninitialized"):
        library.nvmlDeviceGetCount()


def test_it_is_closed_after_each_question() -> None:
    library = ScriptedLibrary()
    assert RealNvml(library).inventory() != ""
    assert memory_of(CARDS[0], library) is not None
    assert (use_by_process(library), library.opened) == ({}, 0)


def holds(pid: int, size: int | None) -> Any:
    return SimpleNamespace(pid=pid, usedGpuMemory=size)


def sample(pid: int, at: int, share: int) -> Any:
    return pynvml.c_nvmlProcessUtilizationSample_t(pid=pid, timeStamp=at, smUtil=share)


def test_the_latest_share_of_each_process_counts() -> None:
    samples = {
        "GPU-0": [sample(7, 300, 40), sample(7, 100, 90), sample(8, 200, 5), sample(9, 200, 99)],
        "GPU-1": [sample(7, 300, 35)],
    }
    held = {"GPU-0": [holds(7, 100), holds(8, 10), holds(6, None)], "GPU-1": [holds(7, 1)]}
    library = ScriptedLibrary(
        nvmlDeviceGetComputeRunningProcesses=held.__getitem__,
        nvmlDeviceGetProcessUtilization=lambda card, _since: samples[card],
    )
    assert use_by_process(library) == {
        7: GpuUse(memory=101, percent=75.0),
        8: GpuUse(memory=10, percent=5.0),
    }


@pytest.mark.parametrize(
    ("code", "percent"),
    [(pynvml.NVML_ERROR_NOT_FOUND, 0.0), (pynvml.NVML_ERROR_NOT_SUPPORTED, None)],
)
def test_idle_is_zero_and_untold_is_none(code: int, percent: float | None) -> None:
    library = ScriptedLibrary(
        nvmlDeviceGetComputeRunningProcesses=lambda _: [holds(7, 4)],
        nvmlDeviceGetProcessUtilization=raising(code),
    )
    assert use_by_process(library) == {7: GpuUse(memory=8, percent=percent)}


def test_a_card_that_fell_off_the_bus_hides_no_other() -> None:
    def by_index(index: int) -> str:
        if not index:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST)
        return CARDS[index]

    library = ScriptedLibrary(
        nvmlDeviceGetHandleByIndex=by_index,
        nvmlDeviceGetComputeRunningProcesses=lambda _: [holds(7, 4)],
        nvmlDeviceGetProcessUtilization=raising(pynvml.NVML_ERROR_NOT_FOUND),
    )
    assert use_by_process(library) == {7: GpuUse(memory=4, percent=0.0)}


def told(*events: Any) -> Callable[..., Any]:
    """What each wait for an event yields; an error code is raised."""
    series: Iterator[Any] = iter(events)

    def wait(_events: object, _milliseconds: int) -> Any:
        one = next(series)
        if isinstance(one, int):
            raise pynvml.NVMLError(one)
        return one

    return wait


def xid(card: str, number: int, instance: int = WHOLE) -> Any:
    return SimpleNamespace(
        device=card,
        eventType=pynvml.nvmlEventTypeXidCriticalError,
        eventData=number,
        gpuInstanceId=instance,
    )


def test_events_of_each_card_come_in_order() -> None:
    freed: list[str] = []
    library = ScriptedLibrary(
        nvmlEventSetWait_v2=told(xid("GPU-1", 31), pynvml.NVML_ERROR_TIMEOUT, xid("GPU-0", 48)),
        nvmlEventSetFree=freed.append,
    )
    turns = iter([False, False, False, True])
    assert list(xid_events(lambda: next(turns), library=library)) == [
        XidEvent(number=31, uuids=("GPU-1",)),
        XidEvent(number=48, uuids=("GPU-0",)),
    ]
    assert freed == ["events"]


def test_an_event_names_the_slices_that_it_is_about() -> None:
    library = ScriptedLibrary(
        nvmlDeviceGetMigMode=lambda _: (pynvml.NVML_DEVICE_MIG_ENABLE, 1),
        nvmlDeviceGetMaxMigDeviceCount=lambda _: 2,
        nvmlDeviceGetMigDeviceHandleByIndex=lambda card, number: f"MIG-{card}-{number}",
        nvmlDeviceGetGpuInstanceId=lambda part: int(part[-1]),
        nvmlEventSetWait_v2=told(xid("GPU-0", 94, instance=1), xid("GPU-0", 79)),
    )
    turns = iter([False, False, True])
    assert [event.uuids for event in xid_events(lambda: next(turns), library=library)] == [
        ("GPU-0", "MIG-GPU-0-1"),
        ("GPU-0", "MIG-GPU-0-0", "MIG-GPU-0-1"),
    ]


def test_a_lost_gpu_is_named_and_ends_the_listening() -> None:
    def memory(card: str) -> Any:
        if card == "GPU-1":
            raise pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST)
        return SimpleNamespace(used=1, total=2)

    library = ScriptedLibrary(
        nvmlEventSetWait_v2=told(pynvml.NVML_ERROR_GPU_IS_LOST), nvmlDeviceGetMemoryInfo=memory
    )
    assert list(xid_events(lambda: False, library=library)) == [
        XidEvent(number=79, uuids=("GPU-1",))
    ]


def test_where_no_card_tells_events_nobody_waits() -> None:
    library = ScriptedLibrary(nvmlDeviceRegisterEvents=raising(pynvml.NVML_ERROR_NOT_SUPPORTED))
    assert list(xid_events(lambda: False, library=library)) == []


def test_a_driver_that_fails_ends_it() -> None:
    library = ScriptedLibrary(nvmlEventSetWait_v2=told(pynvml.NVML_ERROR_UNKNOWN))
    assert list(xid_events(lambda: False, library=library)) == []
