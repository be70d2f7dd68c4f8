"""Work on files beside the event loop, which is whole when whoever waits for it is cancelled."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import shutil
from collections.abc import Callable
from pathlib import Path

__all__ = ["remove_tree", "to_the_end"]


async def to_the_end(function: Callable[..., None], *arguments: object) -> None:
    """Run something in a thread. When this is cancelled, however often, it ends first: nothing is
    written after its file was let go.
    """
    running = asyncio.ensure_future(asyncio.to_thread(function, *arguments))
    try:
        await asyncio.shield(running)
    except asyncio.CancelledError:
        while not running.done():
            with contextlib.suppress(asyncio.CancelledError):
                # Not awaited itself: its own failure would hide the cancellation.
                await asyncio.wait({running})
        raise


async def remove_tree(folder: Path) -> None:
    """Remove a folder, if it is there, however much is in it."""
    await to_the_end(functools.partial(shutil.rmtree, ignore_errors=True), folder)
