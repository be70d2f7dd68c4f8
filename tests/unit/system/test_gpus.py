from __future__ import annotations

import os
import stat
from pathlib import Path

import attrs
import pytest

from machine_lifecycle.model.hardware import GpuSource, Hardware
from machine_lifecycle.model.settings import GpuMode, Settings
from machine_lifecycle.system.gpus import Gpus, detect
from machine_lifecycle.system.nvml import (
    Device,
    Inventory,
    RealNvml,
    memory_of,
    use_by_process,
    xid_events,
)
from tests.support.gpu_memory import readings


@attrs.frozen
class Recorded:
    """What a driver once said."""

    answer: Inventory | str

    def inventory(self) -> Inventory | str:
        return self.answer


def card(index: int, *slices: Device) -> Device:
    uuid = f"GPU-{index}1111111-aaaa-bbbb-cccc-{index:012x}"
    return Device(index=index, name="NVIDIA L4", uuid=uuid, memory_mib=23034, slices=slices)


def part(index: int, number: int) -> Device:
    uuid = f"MIG-{number}2222222-aaaa-bbbb-cccc-{index:012x}"
    return Device(index=index, name="NVIDIA H200 MIG 1g.18gb", uuid=uuid, memory_mib=16384)


def driver(*devices: Device) -> Recorded:
    return Recorded(Inventory(devices=devices, driver="580.95.05"))


def found(devices: Recorded, visible: str | None = None, **settings: object) -> Hardware:
    return detect(
        Settings(cuda_visible_devices=visible, **settings),  # type: ignore[arg-type]  # a test's
        devices,
        "/nonexistent/nvidia-smi",
    )


ABSENT = Recorded("NVML: NVML Shared Library Not Found")


@pytest.mark.parametrize("number", [1, 2, 8])
def test_every_card(number: int) -> None:
    hardware = found(driver(*(card(index) for index in range(number))))
    assert hardware.source is GpuSource.NVML
    assert [gpu.visible for gpu in hardware.gpus] == [str(index) for index in range(number)]
    assert hardware.driver == "580.95.05"
    assert hardware.cpus >= 1
    assert hardware.memory_mib > 0


def test_none() -> None:
    hardware = found(driver())
    assert (hardware.gpus, hardware.source) == ((), GpuSource.NONE)
    assert "nvml knows of no GPU" in hardware.notes


def test_slices_stand_for_their_card() -> None:
    hardware = found(driver(card(0, part(0, 1), part(0, 2)), card(1)))
    assert [gpu.visible[:5] for gpu in hardware.gpus] == ["MIG-1", "MIG-2", "1"]
    assert [gpu.index for gpu in hardware.gpus] == [0, 1, 2]


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        ("1,0", ["1", "0"]),
        ("GPU-21111111", ["GPU-21111111"]),
        ("", []),
        ("-1", []),
        ("0,-1,1", ["0"]),
        ("0,9,1", ["0"]),
        ("0,nonsense,1", ["0"]),
        ("0,0", []),
        ("GPU-", []),
    ],
)
def test_inherited_list_is_read_as_cuda_does(visible: str, expected: list[str]) -> None:
    hardware = found(driver(card(0), card(1), card(2)), visible)
    assert [gpu.visible for gpu in hardware.gpus] == expected
    if visible not in {"1,0", "GPU-21111111"}:
        assert any("CUDA_VISIBLE_DEVICES" in note for note in hardware.notes)


def test_slices_by_name_and_by_the_cards_number() -> None:
    sliced = driver(card(0, part(0, 1), part(0, 2)))
    assert [gpu.uuid[:5] for gpu in found(sliced, "MIG-22").gpus] == ["MIG-2"]
    assert [gpu.uuid[:5] for gpu in found(sliced, "0").gpus] == ["MIG-1"]


def test_a_number_means_that_card_though_another_is_broken() -> None:
    assert found(driver(card(1)), "1").gpus[0].uuid.startswith("GPU-1")
    assert found(driver(card(1)), "0").gpus == ()


def test_mock_mode_beats_real_cards() -> None:
    hardware = found(driver(card(0)), gpu_mode=GpuMode.MOCK)
    assert (len(hardware.gpus), hardware.simulated) == (2, True)
    hardware = found(driver(card(0)), gpu_mode=GpuMode.MOCK, mock_gpus=3, mock_gpu_model="Toy")
    assert [gpu.name for gpu in hardware.gpus] == ["Toy"] * 3
    assert hardware.gpus[0].memory_mib == 16384


def test_real_cards_beat_a_number_of_mock_ones() -> None:
    assert found(driver(card(0)), mock_gpus=4).source is GpuSource.NVML
    assert len(found(ABSENT, mock_gpus=4).gpus) == 4


def test_by_uuid_when_asked() -> None:
    (first, second) = found(driver(card(0), card(1)), gpu_by_uuid=True).gpus
    assert first.uuid.startswith("GPU-")
    assert (first.visible, second.visible) == (first.uuid, second.uuid)


def test_absent_drivers_are_notes() -> None:
    hardware = found(ABSENT)
    assert hardware.source is GpuSource.NONE
    assert "NVML" in hardware.notes[0]
    assert "nvidia-smi" in hardware.notes[1]


def program(folder: Path, script: str) -> str:
    path = folder / "nvidia-smi"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return os.fspath(path)


def test_nvidia_smi_is_asked_where_nvml_fails(tmp_path: Path) -> None:
    script = (
        'test "$2" = --format=csv,noheader,nounits || exit 3\n'
        'echo "0, NVIDIA L4, 23034, GPU-aa"\n'
        'echo "1, NVIDIA GB10, [N/A], GPU-bb"\n'
        'echo "what is this"'
    )
    hardware = detect(Settings(), ABSENT, program(tmp_path, script))
    assert hardware.source is GpuSource.NVIDIA_SMI
    assert [(gpu.name, gpu.memory_mib) for gpu in hardware.gpus] == [
        ("NVIDIA L4", 23034),
        ("NVIDIA GB10", 0),
    ]
    assert any("not understood" in note for note in hardware.notes)


def test_nvidia_smi_that_fails_is_a_note(tmp_path: Path) -> None:
    hardware = detect(Settings(), ABSENT, program(tmp_path, "echo driver mismatch; exit 9"))
    assert "nvidia-smi: exit status 9: driver mismatch" in hardware.notes


async def test_without_blocking_the_loop() -> None:
    probe = Gpus(settings=Settings(), nvml=driver(card(0)))
    assert len((await probe.detect()).gpus) == 1


def test_the_real_library_answers_or_says_why_not() -> None:
    answer = RealNvml().inventory()
    assert isinstance(answer, Inventory) or answer.startswith("NVML: ")


def test_what_processes_hold_is_asked_where_there_is_a_driver() -> None:
    held = use_by_process()
    if isinstance(RealNvml().inventory(), str):
        assert held == {}
        assert list(xid_events(lambda: False)) == []
    assert all(pid > 0 <= use.memory for pid, use in held.items())


def test_what_a_gpu_holds_is_not_known_where_there_is_no_such_gpu() -> None:
    assert memory_of("GPU-00000000-0000-0000-0000-000000000000") is None
    assert readings([1])("MOCK-0") is None  # the fake says it alike


@pytest.fixture(scope="module")
def inventory() -> Inventory:
    """What a real driver tells. What it opens when it is first asked, it keeps."""
    answer = RealNvml().inventory()
    if isinstance(answer, str) or not answer.devices:
        pytest.skip(f"no NVIDIA GPU here: {answer}")
    return answer


@pytest.mark.gpu
def test_a_real_card(inventory: Inventory) -> None:
    device = inventory.devices[0]
    assert device.uuid.startswith("GPU-")
    assert device.memory_mib > 0
    assert inventory.driver
    assert len(detect(Settings()).gpus) >= 1
