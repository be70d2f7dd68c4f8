"""What the driver tells while the machine runs, with its own types and errors; its answers are
scripted, as a GPU that breaks can't be had.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest

from machine_lifecycle.system.nvml import GpuUse, XidEvent, use_by_process, xid_events

CARDS = ("GPU-0", "GPU-1")
WHOLE = 0xFFFFFFFF


def raising(code: int) -> Callable[..., Any]:
    def fail(*_: object) -> None:
        raise pynvml.NVMLError(code)

    return fail


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Two cards, of which handles are the UUIDs; further answers by function name."""

    def script(**functions: Any) -> None:
        usual = {
            "nvmlInit": lambda: None,
            "nvmlShutdown": lambda: None,
            "nvmlDeviceGetCount": lambda: len(CARDS),
            "nvmlDeviceGetHandleByIndex": lambda index: CARDS[index],
            "nvmlDeviceGetUUID": lambda handle: handle,
            "nvmlDeviceGetMemoryInfo": lambda _: SimpleNamespace(used=1, total=2),
            "nvmlDeviceGetMigMode": raising(pynvml.NVML_ERROR_NOT_SUPPORTED),
            "nvmlDeviceGetComputeRunningProcesses": lambda _: [],
            "nvmlDeviceRegisterEvents": lambda *_: None,
            "nvmlEventSetCreate": lambda: "events",
            "nvmlEventSetFree": lambda _: None,
        }
        for name, function in (usual | functions).items():
            monkeypatch.setattr(pynvml, name, function)

    return script


def holds(pid: int, size: int | None) -> Any:
    return SimpleNamespace(pid=pid, usedGpuMemory=size)


def sample(pid: int, at: int, share: int) -> Any:
    return pynvml.c_nvmlProcessUtilizationSample_t(pid=pid, timeStamp=at, smUtil=share)


def test_the_latest_share_of_each_process_counts(answers: Callable[..., None]) -> None:
    samples = {
        "GPU-0": [sample(7, 300, 40), sample(7, 100, 90), sample(8, 200, 5), sample(9, 200, 99)],
        "GPU-1": [sample(7, 300, 35)],
    }
    held = {"GPU-0": [holds(7, 100), holds(8, 10), holds(6, None)], "GPU-1": [holds(7, 1)]}
    answers(
        nvmlDeviceGetComputeRunningProcesses=held.__getitem__,
        nvmlDeviceGetProcessUtilization=lambda card, _since: samples[card],
    )
    assert use_by_process() == {
        7: GpuUse(memory=101, percent=75.0),
        8: GpuUse(memory=10, percent=5.0),
    }


@pytest.mark.parametrize(
    ("code", "percent"),
    [(pynvml.NVML_ERROR_NOT_FOUND, 0.0), (pynvml.NVML_ERROR_NOT_SUPPORTED, None)],
)
def test_idle_is_zero_and_untold_is_none(
    answers: Callable[..., None], code: int, percent: float | None
) -> None:
    answers(
        nvmlDeviceGetComputeRunningProcesses=lambda _: [holds(7, 4)],
        nvmlDeviceGetProcessUtilization=raising(code),
    )
    assert use_by_process() == {7: GpuUse(memory=8, percent=percent)}


def test_a_card_that_fell_off_the_bus_hides_no_other(answers: Callable[..., None]) -> None:
    def by_index(index: int) -> str:
        if not index:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST)
        return CARDS[index]

    answers(
        nvmlDeviceGetHandleByIndex=by_index,
        nvmlDeviceGetComputeRunningProcesses=lambda _: [holds(7, 4)],
        nvmlDeviceGetProcessUtilization=raising(pynvml.NVML_ERROR_NOT_FOUND),
    )
    assert use_by_process() == {7: GpuUse(memory=4, percent=0.0)}


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


def test_events_of_each_card_come_in_order(answers: Callable[..., None]) -> None:
    freed: list[str] = []
    answers(
        nvmlEventSetWait_v2=told(xid("GPU-1", 31), pynvml.NVML_ERROR_TIMEOUT, xid("GPU-0", 48)),
        nvmlEventSetFree=freed.append,
    )
    turns = iter([False, False, False, True])
    assert list(xid_events(lambda: next(turns))) == [
        XidEvent(number=31, uuids=("GPU-1",)),
        XidEvent(number=48, uuids=("GPU-0",)),
    ]
    assert freed == ["events"]


def test_an_event_names_the_slices_that_it_is_about(answers: Callable[..., None]) -> None:
    answers(
        nvmlDeviceGetMigMode=lambda _: (pynvml.NVML_DEVICE_MIG_ENABLE, 1),
        nvmlDeviceGetMaxMigDeviceCount=lambda _: 2,
        nvmlDeviceGetMigDeviceHandleByIndex=lambda card, number: f"MIG-{card}-{number}",
        nvmlDeviceGetGpuInstanceId=lambda part: int(part[-1]),
        nvmlEventSetWait_v2=told(xid("GPU-0", 94, instance=1), xid("GPU-0", 79)),
    )
    turns = iter([False, False, True])
    assert [event.uuids for event in xid_events(lambda: next(turns))] == [
        ("GPU-0", "MIG-GPU-0-1"),
        ("GPU-0", "MIG-GPU-0-0", "MIG-GPU-0-1"),
    ]


def test_a_lost_gpu_is_named_and_ends_the_listening(answers: Callable[..., None]) -> None:
    def memory(card: str) -> Any:
        if card == "GPU-1":
            raise pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST)
        return SimpleNamespace(used=1, total=2)

    answers(nvmlEventSetWait_v2=told(pynvml.NVML_ERROR_GPU_IS_LOST), nvmlDeviceGetMemoryInfo=memory)
    assert list(xid_events(lambda: False)) == [XidEvent(number=79, uuids=("GPU-1",))]


def test_where_no_card_tells_events_nobody_waits(answers: Callable[..., None]) -> None:
    answers(nvmlDeviceRegisterEvents=raising(pynvml.NVML_ERROR_NOT_SUPPORTED))
    assert list(xid_events(lambda: False)) == []


def test_a_driver_that_fails_ends_it(answers: Callable[..., None]) -> None:
    answers(nvmlEventSetWait_v2=told(pynvml.NVML_ERROR_UNKNOWN))
    assert list(xid_events(lambda: False)) == []
