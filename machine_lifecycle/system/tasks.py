"""Tasks that may need to be told twice to end, and calls that may never end."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

__all__ = ["end_tasks", "in_daemon_thread"]

_T = TypeVar("_T")

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


def in_daemon_thread(call: Callable[[], _T], *, name: str) -> asyncio.Future[_T]:
    """Begin a call that may hang for ever in a thread of its own, for which no exit waits.

    ``asyncio.to_thread`` lends one of a few threads that all share, and the end of the loop waits
    for it.
    """
    answer: Future[_T] = Future()
    answer.set_running_or_notify_cancel()  # it is not to be called off from now on

    def run() -> None:
        try:
            answer.set_result(call())
        except Exception as error:  # noqa: BLE001 - it is raised where the answer is waited for
            answer.set_exception(error)

    threading.Thread(target=run, name=name, daemon=True).start()
    return asyncio.wrap_future(answer)
