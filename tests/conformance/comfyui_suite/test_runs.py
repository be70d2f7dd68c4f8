"""What a run gives: files, pixels, progress, warnings."""

from __future__ import annotations

import asyncio
import base64
import io
import struct
from typing import Any

import attrs
import pytest
from PIL import Image

from machine_lifecycle.connectors.errors import NodeFailed, PromptInterrupted


def _single(value: float) -> float:
    return struct.unpack("f", struct.pack("f", value))[0]  # type: ignore[no-any-return]


def _inverted(byte: int) -> int:
    """Single precision, and cut off: what a saved inverse holds."""
    return int(_single(255.0 * _single(1.0 - _single(byte / 255))))


def _empty(color: int, width: int = 16, height: int = 16, batch: int = 1) -> dict[str, Any]:
    inputs = {"width": width, "height": height, "batch_size": batch, "color": color}
    return {"class_type": "EmptyImage", "inputs": inputs}


def _save(image: str, prefix: str = "suite/run") -> dict[str, Any]:
    inputs = {"images": [image, 0], "filename_prefix": prefix}
    return {"class_type": "SaveImage", "inputs": inputs}


def _invert(image: str) -> dict[str, Any]:
    return {"class_type": "ImageInvert", "inputs": {"image": [image, 0]}}


def _image(data: bytes) -> Image.Image:
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        return image


async def test_saved_and_preview_files_come_back(
    service: Any, job: Any, steps: Any, color: int
) -> None:
    connector = await service.connector()
    graph = {
        "1": _empty(color, 64, 48),
        "2": _invert("1"),
        "3": _save("2"),
        "4": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
    }
    result = await connector.run(job.of(graph), steps)
    saved, preview = result.outputs
    assert (saved.node, saved.temporary, saved.kind, saved.mime) == (
        "3",
        False,
        "image",
        "image/png",
    )
    assert (preview.node, preview.temporary) == ("4", True)
    assert _image(saved.data).size == (64, 48)
    red, green, blue = color >> 16, color >> 8 & 255, color & 255
    assert _image(saved.data).getpixel((5, 5)) == tuple(map(_inverted, (red, green, blue)))
    assert _image(preview.data).getpixel((0, 0)) == (red, green, blue)
    assert result.warnings == ()
    async with service.http.get(service.url(saved.reference)) as response:
        assert await response.read() == saved.data


async def test_a_saved_file_remembers_its_graph(
    service: Any, job: Any, steps: Any, color: int
) -> None:
    connector = await service.connector()
    result = await connector.run(job.of({"1": _empty(color), "2": _save("1")}), steps)
    assert '"EmptyImage"' in _image(result.outputs[0].data).info["prompt"]


def test_the_inverse_of_0x99_is_cut_off_not_rounded() -> None:
    assert _inverted(0x99) == 101


async def test_an_uploaded_image_is_inverted_at_every_level(
    service: Any, job: Any, steps: Any
) -> None:
    ramp = Image.new("L", (256, 2))
    ramp.putdata([*range(256), *range(256)])
    buffer = io.BytesIO()
    ramp.convert("RGB").save(buffer, "PNG")
    encoded = base64.b64encode(buffer.getvalue()).decode()
    graph = {
        "1": {"class_type": "LoadImage", "inputs": {"image": "suite-ramp.png"}},
        "2": _invert("1"),
        "3": _save("2"),
        "4": _invert("2"),
        "5": _save("4"),
    }
    payload = {"workflow": graph, "images": [{"name": "suite-ramp.png", "data": encoded}]}
    connector = await service.connector()
    once, twice = (await connector.run(job.of(payload), steps)).outputs
    assert list(_image(once.data).crop((0, 0, 256, 1)).tobytes("raw", "R")) == [
        _inverted(level) for level in range(256)
    ]
    wanted = [
        int(_single(255.0 * _single(1.0 - _single(1.0 - _single(level / 255)))))
        for level in range(256)
    ]
    assert list(_image(twice.data).crop((0, 0, 256, 1)).tobytes("raw", "R")) == wanted


async def test_two_jobs_that_bring_different_images_under_one_name(
    service: Any, job: Any, steps: Any
) -> None:
    """They run side by side, and each gets its own back."""

    def brings(level: int) -> dict[str, Any]:
        buffer = io.BytesIO()
        Image.new("RGB", (8, 8), (level, level, level)).save(buffer, "PNG")
        data = base64.b64encode(buffer.getvalue()).decode()
        graph = {
            "1": {"class_type": "LoadImage", "inputs": {"image": "suite-same.png [input]"}},
            "2": _save("1"),
        }
        return {"workflow": graph, "images": [{"name": "suite-same.png", "data": data}]}

    connector = await service.connector()
    levels = (10, 20, 30, 10)
    runs = [
        connector.run(job.of(brings(level), id=f"same-{number}"), steps)
        for number, level in enumerate(levels)
    ]
    results = await asyncio.gather(*runs)
    got = [_image(result.outputs[0].data).getpixel((0, 0)) for result in results]
    assert got == [(level, level, level) for level in levels]


async def test_batches_give_one_file_each_and_names_never_repeat(
    service: Any, job: Any, steps: Any, color: int
) -> None:
    connector = await service.connector()
    graph = {"1": _empty(color, batch=3), "2": _save("1", f"suite/batch{color}")}
    result = await connector.run(job.of(graph), steps)
    names = [output.name for output in result.outputs]
    assert names == [f"batch{color}_{number:05}_.png" for number in (1, 2, 3)]
    graph["3"] = _invert("1")
    graph["2"] = _save("3", f"suite/batch{color}")
    again = await connector.run(job.of(graph), steps)
    assert [output.name for output in again.outputs] == [
        f"batch{color}_{number:05}_.png" for number in (4, 5, 6)
    ]


@pytest.mark.parametrize("method", ["nearest-exact", "bilinear", "area", "bicubic", "lanczos"])
async def test_scaling_keeps_to_the_size_asked_for(
    service: Any, job: Any, steps: Any, color: int, method: str
) -> None:
    connector = await service.connector()
    scaled = {
        "image": ["1", 0],
        "upscale_method": method,
        "width": 40,
        "height": 24,
        "crop": "center",
    }
    graph = {
        "1": _empty(color, 32, 32),
        "2": {"class_type": "ImageScale", "inputs": scaled},
        "3": _save("2"),
    }
    result = await connector.run(job.of(graph), steps)
    assert _image(result.outputs[0].data).size == (40, 24)


async def test_progress_counts_nodes_and_steps_and_never_falls(
    service: Any, job: Any, steps: Any, color: int
) -> None:
    connector = await service.connector()
    # Slow enough for the newest version, which tells ten steps a second at most.
    graph = {"1": _empty(color), "2": service.steps("1", 4, 0.11), "3": _save("2")}
    await connector.run(job.of(graph), steps)
    fractions = [progress.fraction for progress in steps.all]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    within = [progress for progress in steps.all if progress.steps == 4]
    assert {progress.step for progress in within} >= {1, 2, 3}
    assert within[0].fraction == pytest.approx((1 + within[0].step / 4) / 3)


async def test_a_cached_run_ends_well_with_the_same_files(
    service: Any, job: Any, steps: Any, color: int
) -> None:
    connector = await service.connector()
    graph = {"1": _empty(color), "2": _invert("1"), "3": _save("2")}
    first = await connector.run(job.of(graph), steps)
    second = await connector.run(job.of(graph, "job-2"), steps)
    assert [output.name for output in first.outputs] == [output.name for output in second.outputs]
    assert first.outputs[0].data == second.outputs[0].data
    assert first.service_job_id != second.service_job_id


async def test_pictures_sent_over_the_socket_only_come_back_too(
    service: Any, job: Any, steps: Any, color: int
) -> None:
    if "SaveImageWebsocket" not in service.classes:
        pytest.skip("this service has no SaveImageWebsocket")
    connector = await service.connector()
    graph = {
        "1": _empty(color, batch=2),
        "2": {"class_type": "SaveImageWebsocket", "inputs": {"images": ["1", 0]}},
    }
    result = await connector.run(job.of(graph), steps)
    assert [output.node for output in result.outputs] == ["2", "2"]
    wanted = (color >> 16, color >> 8 & 255, color & 255)
    assert _image(result.outputs[0].data).getpixel((3, 3)) == wanted


async def test_a_partly_valid_graph_runs_with_warnings(
    service: Any, job: Any, steps: Any, color: int
) -> None:
    connector = await service.connector()
    broken = {"class_type": "SaveImage", "inputs": {"filename_prefix": "suite/part"}}
    graph = {"1": _empty(color), "2": _save("1"), "3": broken}
    result = await connector.run(job.of(graph), steps)
    assert [output.node for output in result.outputs] == ["2"]
    (warning,) = result.warnings
    assert (warning.node, warning.node_type, warning.kind) == (
        "3",
        "SaveImage",
        "required_input_missing",
    )


async def test_a_prompt_of_five_megabytes_passes(
    service: Any, job: Any, steps: Any, color: int
) -> None:
    connector = await service.connector()
    payload = {
        "prompt": {"1": _empty(color), "2": _save("1")},
        "extra_data": {"notes": "x" * 5_000_000},
    }
    result = await connector.run(job.of(payload), steps)
    assert len(result.outputs) == 1
    history = await service.get(f"/history/{result.service_job_id}")
    assert len(history[result.service_job_id]["prompt"][3]["notes"]) == 5_000_000


async def test_probe_and_capabilities_tell_what_runs(service: Any) -> None:
    connector = await service.connector()
    probe = await connector.probe()
    assert probe.healthy
    assert probe.version == service.version
    known = await connector.capabilities()
    assert set(known["node_classes"]) == set(service.classes)
    assert known["devices"][0]["vram_total"] > 0
    if service.name != "real":
        assert known["models"]["checkpoints"] == ["simulated.safetensors"]
        assert list(known["node_packs"]) == ["simulation"]


async def _ran(service: Any, job_id: str) -> list[str]:
    """Ids of the prompts of this job that ended, oldest first."""
    history = await service.get("/history?max_items=50")
    return [
        prompt_id
        for prompt_id, entry in history.items()
        if entry["prompt"][3].get("machine_lifecycle_job") == job_id
    ]


async def test_a_job_that_was_done_before_is_not_done_again(
    service: Any, job: Any, steps: Any, color: int
) -> None:
    """Its first worker was lost after the end, and before the result was written down."""
    graph = {"1": _empty(color), "2": service.steps("1", 2, 0.01), "3": _save("2")}
    mine = job.of(graph, id=f"done-{color}")
    first = await (await service.connector()).run(mine, steps)
    other = await service.connector()
    again = await other.run(attrs.evolve(mine, claims=2), steps)
    assert again.service_job_id == first.service_job_id
    assert [(one.name, one.data) for one in again.outputs] == [
        (one.name, one.data) for one in first.outputs
    ]
    assert await _ran(service, mine.id) == [first.service_job_id]
    # One that was claimed once has no past: the same id may be another queue's.
    fresh = await other.run(mine, steps)
    assert await _ran(service, mine.id) == [first.service_job_id, fresh.service_job_id]
    changed = {**graph, "1": _empty(color ^ 1)}
    third = await other.run(attrs.evolve(mine, payload=changed, claims=3), steps)
    assert third.service_job_id not in (first.service_job_id, fresh.service_job_id)


@pytest.mark.parametrize("place", ["runs", "waits"])
async def test_a_prompt_that_its_lost_worker_left_is_taken_up(
    service: Any, job: Any, steps: Any, color: int, place: str
) -> None:
    graph = {"1": _empty(color), "2": service.steps("1", 40, 0.03), "3": _save("2")}
    mine = job.of(graph, id=f"left-{color}")
    if place == "waits":
        ahead = {"1": _empty(color ^ 2), "2": service.steps("1", 20, 0.03), "3": _save("2")}
        async with service.http.post(service.url("/prompt"), json={"prompt": ahead}) as answer:
            assert answer.status == 200
    body = {"prompt": graph, "extra_data": {"machine_lifecycle_job": mine.id}}
    async with service.http.post(service.url("/prompt"), json=body) as answer:
        left = (await answer.json())["prompt_id"]
    connector = await service.connector(poll_interval=0.05)
    result = await connector.run(attrs.evolve(mine, claims=2), steps)
    assert result.service_job_id == left
    assert len(result.outputs) == 1
    assert await _ran(service, mine.id) == [left]


async def test_a_prompt_that_is_taken_up_can_be_stopped(
    service: Any, job: Any, steps: Any, color: int
) -> None:
    graph = {"1": _empty(color), "2": service.steps("1", 400, 0.03), "3": _save("2")}
    mine = job.of(graph, id=f"stopped-{color}")
    body = {"prompt": graph, "extra_data": {"machine_lifecycle_job": mine.id}}
    async with service.http.post(service.url("/prompt"), json=body) as answer:
        assert answer.status == 200
    connector = await service.connector(poll_interval=0.05)
    running = asyncio.create_task(connector.run(attrs.evolve(mine, claims=2), steps))
    await steps.waiting()
    assert await connector.cancel(mine.id)
    with pytest.raises(PromptInterrupted) as caught:
        await running
    assert caught.value.by_us


async def test_what_failed_before_is_done_again(
    service: Any, job: Any, steps: Any, color: int
) -> None:
    graph = {
        "1": _empty(color),
        "2": service.raising("1", "RuntimeError", "for once"),
        "3": _save("2"),
    }
    mine = job.of(graph, id=f"failed-{color}")
    connector = await service.connector()
    for claims in (1, 2):
        with pytest.raises(NodeFailed):
            await connector.run(attrs.evolve(mine, claims=claims), steps)
    assert len(await _ran(service, mine.id)) == 2
