"""A real ComfyUI on a real NVIDIA GPU: seen, used, exhausted, spoiled, killed with it in hand.

As ``test_local_comfyui.py``; ``COMFYUI_PYTHON`` has a torch with CUDA.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import attrs
import pytest

from tests.real.conftest import INVERTED, Driven, Graphs, Version, machine_settings
from tests.support.outside import machines

pytestmark = [pytest.mark.real, pytest.mark.gpu, pytest.mark.timeout(600)]

SERVICE, WORKER = "comfyui-gpu0", "redis-worker-comfyui-0"
GIB = 1 << 30


@attrs.frozen
class Card:
    """A GPU as ``nvidia-smi`` tells of it. Memory in MiB."""

    uuid: str
    name: str
    total: int
    driver: str


def asked_of_smi(*fields: str) -> list[str]:
    query = ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits"]
    text = subprocess.run(query, capture_output=True, text=True, check=True).stdout
    return [part.strip() for part in text.splitlines()[0].split(",")]


@pytest.fixture(scope="module")
def card() -> Card:
    if shutil.which("nvidia-smi") is None:
        pytest.skip("no nvidia-smi: no NVIDIA GPU here")
    uuid, name, total, driver = asked_of_smi("uuid", "name", "memory.total", "driver_version")
    return Card(uuid, name, int(total), driver)


def on_real_gpus(comfyui: Version, checks: str) -> Iterator[Driven]:
    """A machine on all GPUs that there are."""
    with machines() as make:
        settings = {"GPU_MODE": "actual", "CONFIG_NODES_PATH": checks}
        one = Driven(make(**machine_settings(comfyui, **settings)))
        one.machine.patience = 300
        one.boot()
        yield one


@pytest.fixture(scope="module")
def driven(comfyui: Version, checks: str, card: Card) -> Iterator[Driven]:
    """One for all of them that do it no harm."""
    assert card.total
    yield from on_real_gpus(comfyui, checks)


@pytest.fixture
def own(comfyui: Version, checks: str, card: Card) -> Iterator[Driven]:
    """One for a test that ends its ComfyUI."""
    assert card.total
    yield from on_real_gpus(comfyui, checks)


def on_gpu(action: str, gib: int = 1) -> dict[str, Any]:
    """A graph whose node works there."""
    graph = Graphs().picture(name="gpu")
    inputs = {"image": ["1", 0], "action": action, "gib": gib, "nonce": time.time_ns() % 2**31}
    return {**graph, "2": {"class_type": "CheckCuda", "inputs": inputs}}


def used() -> int:
    """MiB in use, as nvidia-smi tells."""
    return int(asked_of_smi("memory.used")[0])


def test_the_gpu_is_the_one_that_the_driver_tells_of(driven: Driven, card: Card) -> None:
    (gpu, *_) = driven.status()["hardware"]["gpus"]
    assert (gpu["uuid"], gpu["name"]) == (card.uuid, card.name)
    assert abs(gpu["memory_mib"] - card.total) < 1024  # smi leaves out what is reserved
    doctor = driven.machine.call("doctor")
    assert card.driver in doctor.stdout, doctor.stdout


def test_a_job_runs_there_and_its_use_is_told(
    driven: Driven, card: Card, first_picture: Any
) -> None:
    answer = driven.submit(on_gpu("product"), "--watch")
    assert answer["status"] == "completed", answer
    assert first_picture(answer) == ((64, 48), INVERTED)
    figures = {name: one["figures"] for name, one in driven.processes().items()}
    assert figures[SERVICE]["gpu_memory_bytes"] > GIB // 10, figures[SERVICE]
    assert figures[SERVICE]["gpu_memory_bytes"] <= card.total << 20
    assert not figures[WORKER]["gpu_memory_bytes"]
    metrics = driven.status()["health_url"] + "/metrics"
    with urllib.request.urlopen(metrics) as page:  # noqa: S310 - our own page
        told = [line for line in page.read().decode().splitlines() if "gpu_memory_bytes{" in line]
    assert any(SERVICE in line and not line.endswith(" 0.0") for line in told), told


def test_a_job_that_asks_for_more_memory_than_there_is_fails_alone(driven: Driven) -> None:
    before = driven.processes()[SERVICE]["pid"]
    answer = driven.submit(on_gpu("exhaust"), "--watch", "--max-retries", "1")
    assert answer["status"] == "failed", answer
    assert answer["error_details"]["code"] == "service-out-of-memory", answer
    assert driven.processes()[SERVICE]["pid"] == before
    assert driven.submit(on_gpu("product"), "--watch")["status"] == "completed"


def test_the_pages_say_what_the_gpu_is(driven: Driven, card: Card) -> None:
    text = json.dumps(driven.page("/status"))
    assert card.name in text


def test_a_spoiled_context_is_mended_by_a_restart_and_its_job_given_up(own: Driven) -> None:
    before = own.processes()[SERVICE]["pid"]
    job = own.submit(on_gpu("spoil"))["id"]
    (record,) = own.until_ended([job])
    assert record.status == "failed", record
    assert "assert" in record.error, record.error
    after = own.until_ready(SERVICE, WORKER)
    assert after[SERVICE]["pid"] != before
    answer = own.submit(on_gpu("product"), "--watch")
    assert answer["status"] == "completed", answer
    assert own.status()["state"] == "ready"
    assert not own.status()["conditions"]


def test_a_comfyui_that_is_killed_gives_its_memory_back_before_it_starts(
    own: Driven, card: Card
) -> None:
    most = card.total // 1024 * 3 // 4
    assert own.submit(on_gpu("hold", most), "--watch")["status"] == "completed"
    assert used() >= most * 1024
    pid = own.processes()[SERVICE]["pid"]
    os.kill(pid, signal.SIGKILL)
    while own.until_ready(SERVICE, WORKER)[SERVICE]["pid"] == pid:
        continue
    assert used() < most * 1024 // 4
    again = own.submit(on_gpu("hold", most), "--watch")
    assert again["status"] == "completed", again
