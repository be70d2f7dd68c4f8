"""A service of one's own that has a machine inside: boots it, gives it a job, shuts both down.

Run: ``python examples/embed.py``. Nothing else is needed; the machine is a simulated one.
"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from machine_lifecycle import Changed, JobFinished, Machine, Settings, open_job_queue

GRAPH = {
    "1": {
        "class_type": "EmptyImage",
        "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": 0x336699},
    },
    "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "embed"}},
}


def moved(event: Changed) -> None:
    """Called for each change of the state; it may be a coroutine function."""
    print(f"{event.source.value} -> {event.target.value}")


async def tell_jobs(machine: Machine) -> None:
    """Another way to hear of events: a stream, which ends with the machine."""
    async for event in machine.events(JobFinished):
        print(f"a job is {event.outcome}")


async def main(folder: Path) -> None:
    """The service."""
    settings = Settings(
        workers="simulation:2", workspace=folder / "w", runtime_dir=folder / "r", health_port=0
    )
    async with Machine.open(settings) as machine:
        machine.on(Changed, moved)
        telling = asyncio.create_task(tell_jobs(machine))
        await machine.boot()
        print(f"{machine.id} is {machine.state.value}, pages at {machine.status().health_url}")
        async with open_job_queue(machine.queue_url) as queue:
            job = await queue.submit({"workflow": GRAPH}, service_required="simulation")
            async for event in queue.watch(job):
                print(f"job: {event.kind} {event.percent:.0f}%")
            (picture,) = await queue.outputs(job)
            print(f"{picture.name}: {len(picture.data)} bytes")
        await machine.drain()  # takes no further jobs; leaving the block stops everything
    await telling


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        asyncio.run(main(Path(temporary)))
