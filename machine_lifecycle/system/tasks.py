"""Ending tasks that may need to be told twice."""

from __future__ import annotations

import asyncio
from typing import Any

__all__ = ["end_tasks"]

_TURNS, _TURN = 5, 0.05
"""Cancellations of a task at most, and the seconds that it has after each."""


async def end_tasks(*tasks: asyncio.Future[Any]) -> None:
    """Cancel tasks, and return when they have ended, or after a quarter of a second.

    A single cancellation is not enough: one that meets redis-py in the middle of a reply can come
    out as an error of the connection, and the task goes on.
    """
    pending = {task for task in tasks if not task.done()}
    for _ in range(_TURNS):
        for task in pending:
            task.cancel()
        if not pending:
            break
        _, pending = await asyncio.wait(pending, timeout=_TURN)
    for task in tasks:
        if task.done() and not task.cancelled():
            task.exception()
