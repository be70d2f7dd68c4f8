"""What goes wrong, and what is said of it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from machine_lifecycle.connectors.errors import (
    NodeFailed,
    PromptInterrupted,
    PromptRejected,
    PromptTimeout,
    ServiceOutOfMemory,
)


def _empty(color: int, width: int = 16, height: int = 16, batch: int = 1) -> dict[str, Any]:
    inputs = {"width": width, "height": height, "batch_size": batch, "color": color}
    return {"class_type": "EmptyImage", "inputs": inputs}


def _save(image: str, prefix: str = "suite/fails") -> dict[str, Any]:
    return {"class_type": "SaveImage", "inputs": {"images": [image, 0], "filename_prefix": prefix}}


def _long(service: Any, color: int) -> dict[str, Any]:
    return {"1": _empty(color), "2": service.steps("1", 2000, 0.02), "3": _save("2")}


async def test_wrong_values_are_refused_node_by_node(service: Any, job: Any, steps: Any) -> None:
    connector = await service.connector()
    scale = {
        "image": ["1", 0],
        "upscale_method": "by-hand",
        "width": 32,
        "height": "tall",
        "crop": "disabled",
    }
    graph = {
        "1": _empty(0, height=-5),
        "2": {"class_type": "ImageScale", "inputs": scale},
        "3": _save("2"),
    }
    with pytest.raises(PromptRejected) as caught:
        await connector.run(job.of(graph), steps)
    error = caught.value
    assert error.status == 400
    assert error.kind == "prompt_outputs_failed_validation"
    assert not error.recoverable
    assert {(failure.node, failure.node_type, failure.kind) for failure in error.failures} == {
        ("1", "EmptyImage", "value_smaller_than_min"),
        ("2", "ImageScale", "invalid_input_type"),
        ("2", "ImageScale", "value_not_in_list"),
    }
    assert "Value -5 smaller than min of 1" in error.summary


async def test_an_unknown_class_is_refused(service: Any, job: Any, steps: Any) -> None:
    connector = await service.connector()
    graph = {"1": {"class_type": "NoSuchClass", "inputs": {}}, "2": _save("1")}
    with pytest.raises(PromptRejected) as caught:
        await connector.run(job.of(graph), steps)
    assert caught.value.kind in ("invalid_prompt", "missing_node_type")
    assert "NoSuchClass" in caught.value.summary


@pytest.mark.parametrize(
    ("graph", "kinds"),
    [
        ({"1": _empty(0)}, set()),
        ({"2": _save("9")}, {"exception_during_validation"}),
        (
            {
                "1": _empty(0),
                "2": {"class_type": "VAEDecode", "inputs": {"samples": ["1", 0], "vae": ["1", 0]}},
                "3": _save("2"),
            },
            {"return_type_mismatch"},
        ),
        (
            {"1": {"class_type": "LoadImage", "inputs": {"image": "absent.png"}}, "2": _save("1")},
            {"custom_validation_failed"},
        ),
        (
            {
                "1": {"class_type": "EmptyImage", "inputs": {"width": 8, "batch_size": 1}},
                "2": _save("1"),
            },
            {"required_input_missing"},
        ),
    ],
    ids=["no output", "no such link", "wrong type", "no such file", "input missing"],
)
async def test_other_refusals_name_their_kind(
    service: Any, job: Any, steps: Any, graph: dict[str, Any], kinds: set[str]
) -> None:
    connector = await service.connector()
    with pytest.raises(PromptRejected) as caught:
        await connector.run(job.of(graph), steps)
    assert {failure.kind for failure in caught.value.failures} >= kinds
    assert caught.value.summary


async def test_a_cycle_is_refused(service: Any, job: Any, steps: Any) -> None:
    connector = await service.connector()
    graph = {
        "1": {"class_type": "ImageInvert", "inputs": {"image": ["2", 0]}},
        "2": {"class_type": "ImageInvert", "inputs": {"image": ["1", 0]}},
        "3": _save("2"),
    }
    with pytest.raises(PromptRejected) as caught:
        await connector.run(job.of(graph), steps)
    assert caught.value.kind == "prompt_outputs_failed_validation"


async def test_a_raising_node_is_named_with_its_traceback(
    service: Any, job: Any, steps: Any, color: int
) -> None:
    connector = await service.connector()
    raising = service.raising("1", "ValueError", "not like this")
    graph = {"1": _empty(color), "2": raising, "3": _save("2")}
    with pytest.raises(NodeFailed) as caught:
        await connector.run(job.of(graph), steps)
    failure = caught.value.failure
    assert (failure.node, failure.node_type) == ("2", raising["class_type"])
    assert (failure.kind, failure.message) == ("ValueError", "not like this")
    assert not caught.value.recoverable  # the same inputs would raise the same
    assert caught.value.traceback
    good = await connector.run(job.of({"1": _empty(color), "2": _save("1")}, "job-2"), steps)
    assert len(good.outputs) == 1


async def test_too_large_a_picture_is_told_as_out_of_memory(
    service: Any, job: Any, steps: Any
) -> None:
    connector = await service.connector()
    graph = {"1": _empty(0, 16384, 16384, 4096), "2": _save("1")}
    with pytest.raises(ServiceOutOfMemory) as caught:
        await connector.run(job.of(graph), steps)
    assert caught.value.failure.node_type == "EmptyImage"
    assert caught.value.recoverable


async def test_a_running_job_is_cancelled_at_the_service(
    service: Any, job: Any, steps: Any, color: int
) -> None:
    connector = await service.connector()
    run = asyncio.create_task(connector.run(job.of(_long(service, color)), steps))
    await steps.at_step()
    assert await connector.cancel("job-1")
    with pytest.raises(PromptInterrupted) as caught:
        await run
    assert caught.value.by_us
    assert caught.value.node == "2"
    assert await service.queue_ids() == ([], [])
    assert not await connector.cancel("job-1")
    good = await connector.run(job.of({"1": _empty(color), "2": _save("1")}, "job-2"), steps)
    assert len(good.outputs) == 1


async def test_an_interruption_by_somebody_else_is_no_success(
    service: Any, job: Any, steps: Any, color: int
) -> None:
    connector = await service.connector()
    run = asyncio.create_task(connector.run(job.of(_long(service, color)), steps))
    await steps.at_step()
    async with service.http.post(service.url("/interrupt")) as response:
        assert response.status == 200
    with pytest.raises(PromptInterrupted) as caught:
        await run
    assert not caught.value.by_us


async def test_a_waiting_job_is_taken_out_and_the_running_one_goes_on(
    service: Any, job: Any, steps: Any, more_steps: Any, color: int
) -> None:
    connector = await service.connector()
    graph = {"1": _empty(color), "2": service.steps("1", 40, 0.02), "3": _save("2")}
    first = asyncio.create_task(connector.run(job.of(graph), steps))
    await steps.at_step()
    second = asyncio.create_task(connector.run(job.of(_long(service, color), "job-2"), more_steps))
    await more_steps.waiting()
    assert await connector.cancel("job-2")
    with pytest.raises(PromptInterrupted):
        await second
    assert len((await first).outputs) == 1
    assert await service.queue_ids() == ([], [])


async def test_a_job_past_its_deadline_is_stopped_at_the_service(
    service: Any, job: Any, steps: Any, color: int
) -> None:
    connector = await service.connector()
    with pytest.raises(PromptTimeout) as caught:
        await connector.run(job.of(_long(service, color), timeout=2.5), steps)
    assert caught.value.at == "2"
    assert 0.3 < caught.value.progress < 0.6
    assert await service.queue_ids() == ([], [])


async def test_cancelling_the_run_leaves_the_service_without_it(
    service: Any, job: Any, steps: Any, color: int
) -> None:
    connector = await service.connector()
    run = asyncio.create_task(connector.run(job.of(_long(service, color)), steps))
    await steps.at_step()
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert await service.queue_ids() == ([], [])


async def test_two_jobs_in_flight_keep_their_results_apart(
    service: Any, job: Any, steps: Any, more_steps: Any, color: int
) -> None:
    connector = await service.connector()
    one = {"1": _empty(color), "2": service.steps("1", 5, 0.02), "3": _save("2", "suite/one")}
    bad = {"1": _empty(color), "2": service.raising("1", "RuntimeError", "boo"), "3": _save("2")}
    two = {"1": _empty(color), "2": service.steps("1", 5, 0.02), "7": _save("2", "suite/two")}
    results = await asyncio.gather(
        connector.run(job.of(one, "a"), steps),
        connector.run(job.of(bad, "b"), lambda _progress: None),
        connector.run(job.of(two, "c"), more_steps),
        return_exceptions=True,
    )
    first, failed, second = results
    assert isinstance(failed, NodeFailed)
    assert not isinstance(first, BaseException)
    assert not isinstance(second, BaseException)
    assert first.outputs[0].name.startswith("one_")
    assert second.outputs[0].name.startswith("two_")


async def test_a_run_survives_the_loss_of_its_socket(
    service: Any, job: Any, steps: Any, color: int
) -> None:
    gateway = await service.gateway()
    connector = await service.connector(gateway.port, poll_interval=0.1)
    # Long enough for a new socket, whose events are told as well where ids are ours to choose.
    many = 40 if service.own_socket_ids else 150
    graph = {"1": _empty(color), "2": service.steps("1", many, 0.02), "3": _save("2")}
    run = asyncio.create_task(connector.run(job.of(graph), steps))
    await steps.at_step(3)
    before = len(steps.all)
    await gateway.cut()
    result = await run
    assert len(result.outputs) == 1
    if not service.own_socket_ids:
        assert len(steps.all) > before + 2
    again = await connector.run(job.of({"1": _empty(color), "2": _save("1")}, "job-2"), steps)
    assert len(again.outputs) == 1


async def test_a_run_that_ends_while_the_service_is_away_is_found(
    service: Any, job: Any, steps: Any, color: int
) -> None:
    gateway = await service.gateway()
    connector = await service.connector(gateway.port, poll_interval=0.1)
    graph = {"1": _empty(color), "2": service.steps("1", 20, 0.02), "3": _save("2")}
    run = asyncio.create_task(connector.run(job.of(graph), steps))
    await steps.at_step(3)
    watcher = await service.connector()
    gateway.accepting.clear()
    await gateway.cut()
    # Prompts run in order: once this one is done, so is ours.
    await watcher.run(job.of({"1": _empty(color), "2": _save("1")}, "other"), lambda _step: None)
    gateway.accepting.set()
    assert len((await run).outputs) == 1
