"""What a machine with a real ComfyUI loses when something dies in mid-job: nothing.

As ``test_local_comfyui.py``. A node of ours keeps a book of what really ran, so that what the queue
says can be held against what the service did.
"""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.real.conftest import Driven, Graphs

pytestmark = [pytest.mark.real, pytest.mark.timeout(1200)]

SERVICE, WORKER = "comfyui-gpu0", "redis-worker-comfyui-0"


def book(ledger: Path) -> Counter[str]:
    """Lines that the node wrote: ``begin MARK`` and ``end MARK``."""
    text = ledger.read_text("utf-8") if ledger.exists() else ""
    return Counter(text.splitlines())


def until_begun(driven: Driven, job: str, ledger: Path) -> None:
    """Wait until the node is at work."""
    deadline = time.monotonic() + 60
    while not book(ledger):
        shown = driven.show(job)
        assert time.monotonic() < deadline, shown


@pytest.mark.parametrize(
    "victims", [(SERVICE,), (WORKER,), (SERVICE, WORKER)], ids=["service", "worker", "both"]
)
def test_a_death_in_mid_job_costs_time_and_no_job(
    local: Callable[..., Driven],
    checks: str,
    graphs: Graphs,
    victims: tuple[str, ...],
    tmp_path: Path,
) -> None:
    ledger = tmp_path / "ledger"
    driven = local(CONFIG_NODES_PATH=checks)
    driven.boot()
    before = driven.processes()
    job = driven.submit(graphs.steps("cut", steps=80, seconds=0.1, ledger=ledger))["id"]
    behind = driven.queue([graphs.picture(0x101010 + n, "behind") for n in range(5)])
    until_begun(driven, job, ledger)
    for name in victims:
        os.kill(before[name]["pid"], signal.SIGKILL)
    (record,) = driven.until_ended([job])
    assert (record.status, record.retry_count) == ("completed", 0), record
    assert {record.status for record in driven.until_ended(behind)} == {"completed"}
    after = driven.until_ready(SERVICE, WORKER)
    for name in (SERVICE, WORKER, "valkey"):
        survived = after[name]["pid"] == before[name]["pid"]
        assert survived == (name not in victims), (name, after[name])
    ran = book(ledger)
    # ComfyUI outlives its worker, ends what it was given, and has it in its cache for the next.
    assert ran == {"begin cut": 2 if SERVICE in victims else 1, "end cut": 1}
    assert driven.status()["jobs_completed"] == 6


def test_an_orchestrator_that_dies_in_mid_job_is_followed_by_one_that_takes_over(
    local: Callable[..., Driven], checks: str, graphs: Graphs, tmp_path: Path
) -> None:
    ledger = tmp_path / "ledger"
    driven = local(CONFIG_NODES_PATH=checks)
    driven.boot()
    before = driven.processes()
    job = driven.submit(graphs.steps("kept", steps=150, seconds=0.1, ledger=ledger))["id"]
    behind = driven.queue([graphs.picture(0x202020 + n, "behind") for n in range(5)])
    until_begun(driven, job, ledger)
    driven.machine.signal(signal.SIGKILL)
    assert driven.machine.wait() == -signal.SIGKILL
    assert psutil.pid_exists(before[SERVICE]["pid"])
    driven.boot()
    records = driven.until_ended([job, *behind])
    assert [(one.status, one.retry_count) for one in records] == [("completed", 0)] * 6
    after = driven.until_ready(SERVICE, WORKER)
    for name in (SERVICE, WORKER, "valkey"):
        assert after[name]["pid"] == before[name]["pid"], name
    assert after[SERVICE]["adopted"]
    assert book(ledger) == {"begin kept": 1, "end kept": 1}


def test_a_node_that_ends_comfyuis_thread_fails_its_job_alone(
    local: Callable[..., Driven], checks: str, graphs: Graphs
) -> None:
    """ComfyUI answers for ever and does nothing: only a restart mends it, and the job does it
    again. Others are done in between.
    """
    driven = local(CONFIG_NODES_PATH=checks, COMFYUI_HUNG_AFTER="5")
    driven.boot()
    pid = driven.processes()[SERVICE]["pid"]
    graph = graphs.picture(name="exit")
    inputs = {"image": ["1", 0], "kind": "SystemExit", "message": "gone"}
    graph["2"] = {"class_type": "CheckRaise", "inputs": inputs}
    (culprit,) = driven.queue([graph])
    behind = driven.queue([graphs.picture(0x303030 + n, "behind") for n in range(5)])
    assert {record.status for record in driven.until_ended(behind)} == {"completed"}
    (record,) = driven.until_ended([culprit])
    assert record.status == "failed", record
    assert "3 runs" in record.error, record.error
    assert "at node 2" in record.error, record.error
    after = driven.until_ready(SERVICE, WORKER)
    assert after[SERVICE]["pid"] != pid
    answer = driven.submit(graphs.picture(0x313131, "after"), "--watch")
    assert answer["status"] == "completed"


def test_two_hundred_jobs_on_two_instances_of_which_one_is_given_up(
    local: Callable[..., Driven], checks: str, graphs: Graphs, tmp_path: Path
) -> None:
    ledger = tmp_path / "ledger"
    driven = local(CONFIG_NODES_PATH=checks, MOCK_GPU_NUM="2")
    driven.boot()

    def many(word: str, count: int) -> Counter[str]:
        marks = [f"{word}{number}" for number in range(count)]
        jobs = driven.queue(
            [graphs.steps(mark, steps=1, seconds=0.01, ledger=ledger) for mark in marks]
        )
        records = driven.until_ended(jobs)
        assert [record.status for record in records] == ["completed"] * count
        ran = book(ledger)
        assert [ran[f"end {mark}"] for mark in marks] == [1] * count
        workers = Counter(record.worker_id for record in records)
        files = {
            (record.worker_id, file["path"])
            for record in records
            for file in (record.result or {})["output_files"]
        }
        assert len(files) == count
        return workers

    shares = many("both", 200)
    assert len(shares) == 2
    assert min(shares.values()) > 40, shares

    # Whenever it is back, it is killed: until its restarts are used up.
    name, other = "comfyui-gpu1", "comfyui-gpu0"
    survivor = driven.processes()[other]["pid"]
    killed = 0
    process = driven.processes()[name]
    while process["state"] != "fatal":
        if process["pid"]:
            os.kill(process["pid"], signal.SIGKILL)
            killed += 1
        gone = process["pid"]
        while process["pid"] == gone and process["state"] != "fatal":
            process = driven.machine.until_changed(name)
    assert killed > 2
    status = driven.status()
    assert status["state"] == "ready"
    (condition,) = status["conditions"]
    assert condition["kind"] == "degraded"
    assert name in condition["reason"]
    assert driven.processes()[other]["pid"] == survivor
    assert set(many("one", 50)) == {worker for worker in shares if worker.endswith("-0")}
    assert driven.page("/health")["services"][name]["healthy"] is False
