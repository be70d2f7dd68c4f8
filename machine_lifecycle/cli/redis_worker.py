"""``redis-worker``: one worker process; the machine starts these, people seldom do."""

from __future__ import annotations

import asyncio
import signal

import click

from machine_lifecycle.cli.environment import environment

__all__ = ["redis_worker"]


@click.command("redis-worker")
@click.option("--index", default=0, show_default=True, help="Which of its type it is.")
def redis_worker(index: int) -> None:
    """Run one worker: take jobs from the queue and do them through a connector.

    It reads WORKER_ROUTES, HUB_REDIS_URL, WORKER_ID and what its connectors need. Under a machine
    (MACHINE_CONTROL_SOCKET) it waits until its service is ready; alone it starts at once.
    """
    from importlib.metadata import version  # noqa: PLC0415 - only when a worker runs

    from machine_lifecycle.jobs.worker_config import WorkerConfig  # noqa: PLC0415 - likewise

    config = WorkerConfig.from_env(environment(), index=index, version=version("machine-lifecycle"))

    async def work() -> None:
        from machine_lifecycle.jobs.starting import open_worker  # noqa: PLC0415 - likewise

        async with open_worker(config) as worker:
            loop = asyncio.get_running_loop()
            for name in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(name, worker.stop)
            await worker.run()

    asyncio.run(work())
