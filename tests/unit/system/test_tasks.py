"""Ending tasks, those too that swallow a cancellation."""

from __future__ import annotations

import asyncio

from machine_lifecycle.system.tasks import end_tasks
from tests.support.patience import PATIENCE


async def stubborn(times: int) -> None:
    """Goes on after so many cancellations, as a read does whose error hides them."""
    for _ in range(times):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            continue
    await asyncio.Event().wait()


async def failing() -> None:
    raise OSError("the connection is gone")


async def test_a_task_that_swallows_cancellations_ends() -> None:
    tasks = [asyncio.create_task(stubborn(times)) for times in (0, 1, 3)]
    await asyncio.sleep(0)
    await end_tasks(*tasks)
    assert all(task.cancelled() for task in tasks)


async def test_a_task_that_never_ends_does_not_hold_us_up() -> None:
    task = asyncio.create_task(stubborn(100))
    await asyncio.sleep(0)
    async with asyncio.timeout(PATIENCE):
        await end_tasks(task)
    assert not task.done()
    while not task.done():
        task.cancel()
        await asyncio.sleep(0)


async def test_errors_of_ended_tasks_are_seen() -> None:
    """Else asyncio would complain of them when they are collected."""
    loop = asyncio.get_running_loop()
    complaints: list[object] = []
    loop.set_exception_handler(lambda _loop, context: complaints.append(context))
    task = asyncio.create_task(failing())
    await asyncio.sleep(0)
    await end_tasks(task)
    del task
    await asyncio.sleep(0)
    assert complaints == []


async def test_nothing_to_end() -> None:
    await end_tasks()
