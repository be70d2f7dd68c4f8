"""``redis-worker``: one worker process; the machine starts these, people seldom do."""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import signal
import sys
from collections.abc import Sequence
from importlib.metadata import version

from machine_lifecycle.errors import LifecycleError
from machine_lifecycle.model.bundle import BUNDLE_FOLDER
from machine_lifecycle.system.alert_selector import AlertSelector
from machine_lifecycle.system.last_words import leave

__all__ = ["run_worker"]

_YOUNG = 10_000
"""Objects that are made before the garbage collector looks at them; Python's 700 is less than a
handful of jobs keeps alive, so that it looked through all that was loaded every few milliseconds, a
fifth of the cost of a short job.
"""


def run_worker(words: Sequence[str]) -> None:
    """Run one worker: take jobs from the queue and do them through a connector.

    It reads WORKER_ROUTES, HUB_REDIS_URL, WORKER_ID and what its connectors need. Under a machine
    (MACHINE_CONTROL_SOCKET) it waits until its service is ready; alone it starts at once. Then
    WORKER_OUTBOX should name a folder: results that Redis can't take are kept there, should it end.
    """
    parser = argparse.ArgumentParser(
        prog="machine-lifecycle redis-worker", description=str(run_worker.__doc__).split("\n")[0]
    )
    parser.add_argument("--index", type=int, default=0, help="which of its type it is (default 0)")
    index = parser.parse_args(words).index
    try:
        selector = AlertSelector()
        with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selector)) as runner:
            runner.run(_work(index, selector))
    except LifecycleError as error:
        sys.stderr.write(f"{error}\n")
        leave(error, os.environ)
        sys.exit(error.exit_code)


async def _work(index: int, selector: AlertSelector) -> None:
    from machine_lifecycle.jobs.starting import open_worker  # noqa: PLC0415 - heavy; --help is not
    from machine_lifecycle.jobs.worker_config import WorkerConfig  # noqa: PLC0415 - likewise
    from machine_lifecycle.system.notify import beat  # noqa: PLC0415 - likewise

    if folder := os.environ.get(BUNDLE_FOLDER):
        sys.path.append(folder)  # at the end: it adds modules, and replaces none
    config = WorkerConfig.from_env(os.environ, index=index, version=version("machine-lifecycle"))
    async with open_worker(config) as worker:
        gc.freeze()  # what is loaded by now stays as long as the process
        gc.set_threshold(_YOUNG)
        selector.due = worker.is_asking
        loop = asyncio.get_running_loop()
        for name in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(name, worker.stop)
        beating = loop.create_task(beat(os.environ), name="watchdog")
        try:
            await worker.run()
        finally:
            beating.cancel()
