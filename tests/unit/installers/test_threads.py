"""Work beside the event loop that is cancelled."""

from __future__ import annotations

import asyncio
import threading

import pytest

from machine_lifecycle.installers.threads import to_the_end
from tests.support.patience import PATIENCE


@pytest.mark.parametrize("fails", [False, True])
async def test_what_is_cancelled_however_often_ends_first_and_stays_cancelled(fails: bool) -> None:  # noqa: FBT001
    begun, go_on, done = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        go_on.wait(PATIENCE)
        done.set()
        if fails:
            raise OSError("no room")

    task = asyncio.create_task(to_the_end(work))
    await asyncio.to_thread(begun.wait, PATIENCE)
    for _ in range(3):
        task.cancel()
        for _ in range(3):
            await asyncio.sleep(0)  # sleep: lets the cancellation in
        assert not task.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert done.is_set()
