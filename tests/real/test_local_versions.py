"""Every kind of prompt through a whole machine: submitted, queued, claimed, posted, told, fetched.

As ``test_local_comfyui.py``, with a node pack of our own that takes its time and fails in every
way. Name several ComfyUIs, and each goes through all of it.
"""

from __future__ import annotations

import base64
import io
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.real.conftest import INVERTED, Driven, Graphs, Version, asked, machine_settings
from tests.support.outside import machines

pytestmark = [pytest.mark.real, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def driven(comfyui: Version, checks: str) -> Iterator[Driven]:
    """One machine for all of them: none does it harm."""
    with machines() as make:
        one = Driven(make(**machine_settings(comfyui, CONFIG_NODES_PATH=checks)))
        one.machine.patience = 300
        one.boot()
        yield one


def raising(kind: str, message: str) -> dict[str, Any]:
    graph = Graphs().picture(name="raising")
    inputs = {"image": ["1", 0], "kind": kind, "message": message}
    return {**graph, "2": {"class_type": "CheckRaise", "inputs": inputs}}


def test_a_picture_with_the_right_pixels(
    driven: Driven, graphs: Graphs, first_picture: Any
) -> None:
    answer = driven.submit(graphs.picture(), "--watch")
    assert answer["status"] == "completed", answer
    assert first_picture(answer) == ((64, 48), INVERTED)


def test_a_graph_that_is_refused_is_not_run_again(driven: Driven, graphs: Graphs) -> None:
    answer = driven.submit(graphs.invalid(), "--watch")
    assert (answer["status"], answer["retry_count"]) == ("failed", 0)
    assert "height" in answer["error"]


def test_a_node_that_is_not_there_is_named(driven: Driven, graphs: Graphs) -> None:
    graph = graphs.picture()
    graph["2"]["class_type"] = "NoSuchNode"
    answer = driven.submit(graph, "--watch")
    assert (answer["status"], answer["retry_count"]) == ("failed", 0)
    assert "NoSuchNode" in answer["error"]


def test_a_node_that_refuses_its_inputs_is_not_run_again(driven: Driven) -> None:
    answer = driven.submit(raising("ValueError", "not like this"), "--watch")
    assert (answer["status"], answer["retry_count"]) == ("failed", 0)
    assert "not like this" in answer["error"]
    assert "CheckRaise" in answer["error"]


@pytest.mark.parametrize("kind", ["RuntimeError", "MemoryError"])
def test_a_node_that_may_do_better_is_run_again(driven: Driven, kind: str) -> None:
    answer = driven.submit(raising(kind, "not today"), "--watch")
    assert (answer["status"], answer["retry_count"]) == ("failed", 2)  # three runs in all
    assert "CheckRaise" in answer["error"]


def test_a_long_job_tells_how_far_it_is(driven: Driven, graphs: Graphs) -> None:
    job = driven.submit(graphs.steps("long", steps=60, seconds=0.1))["id"]
    driven.machine.until("job_started", job_id=job)
    told = []
    while not (shown := driven.show(job))["ended_at"]:
        told.append(shown["progress"])
    assert shown["status"] == "completed", shown
    assert told == sorted(told)
    assert len({percent for percent in told if 0 < percent < 100}) > 2, told


def test_a_cancelled_job_stops_in_comfyui(driven: Driven, graphs: Graphs, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    running = driven.submit(graphs.steps("cut", steps=6000, seconds=0.05, ledger=ledger))["id"]
    waiting = driven.submit(graphs.picture(0x0000A1))["id"]
    driven.until_running(running)
    assert driven.machine.call("jobs", "cancel", waiting).returncode == 0
    assert driven.machine.call("jobs", "cancel", running).returncode == 0
    driven.machine.until("job_finished", job_id=running, outcome="cancelled")
    assert [driven.show(job)["status"] for job in (running, waiting)] == ["cancelled"] * 2
    url = f"http://127.0.0.1:{driven.processes()['comfyui-gpu0']['port']}"
    # A node ends at its next step; what comes after it starts at once.
    answer = driven.submit(graphs.picture(0x0000A2), "--watch")
    assert answer["status"] == "completed"
    with asked(f"{url}/queue") as queue:
        assert queue == {"queue_running": [], "queue_pending": []}
    assert ledger.read_text("utf-8") == "begin cut\n"


def test_five_megabytes_of_text_arrive_whole(
    driven: Driven, graphs: Graphs, first_picture: Any
) -> None:
    graph = graphs.picture(name="text")
    size = 5_000_000
    graph["1"] = {"class_type": "CheckText", "inputs": {"text": "x" * size}}
    graph["3"]["inputs"]["images"] = ["1", 0]
    del graph["2"]
    answer = driven.submit(graph, "--watch")
    assert answer["status"] == "completed", answer["error"]
    _, (red, green, blue) = first_picture(answer)
    assert red << 16 | green << 8 | blue == size


def test_a_picture_of_megabytes_goes_in_with_the_job_and_comes_back(
    driven: Driven, graphs: Graphs
) -> None:
    from PIL import Image  # noqa: PLC0415 - only these tests look at pixels

    drawn = random.Random(7)  # noqa: S311 - noise, which no compression makes small
    picture = Image.frombytes("RGB", (1024, 1024), drawn.randbytes(3 * 1024 * 1024))
    file = io.BytesIO()
    picture.save(file, "PNG")
    data = base64.b64encode(file.getvalue()).decode()
    assert len(data) > 4_000_000
    workflow = {
        "1": {"class_type": "LoadImage", "inputs": {"image": "noise.png"}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "n"}},
    }
    payload = {"workflow": workflow, "images": [{"name": "noise.png", "data": data}]}
    answer = driven.submit(payload, "--watch")
    assert answer["status"] == "completed", answer["error"]
    with Image.open(answer["saved"][0]) as back:
        assert back.convert("RGB").tobytes() == picture.tobytes()


def test_what_the_machine_says_of_itself_after_all_that(driven: Driven) -> None:
    status = driven.status()
    assert (status["state"], status["conditions"]) == ("ready", [])
    assert all(process["restarts"] == 0 for process in driven.processes().values())
