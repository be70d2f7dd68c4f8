"""``demo``: see it work, from nothing to a picture, in one command."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import tempfile
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from machine_lifecycle.cli.environment import environment
from machine_lifecycle.errors import LifecycleError
from machine_lifecycle.model.settings import GpuMode, RedisMode, Settings
from machine_lifecycle.system.files import asked_for

if TYPE_CHECKING:
    from rich.console import Console

    from machine_lifecycle.model.paths import Paths

__all__ = ["demo"]


@click.command()
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("outputs"),
    show_default=True,
    help="Folder that takes the picture.",
)
@click.option("--prompt", default="a lighthouse at dusk", show_default=True, help="What to draw.")
@click.option("--seed", default=7, show_default=True, help="Another seed, another picture.")
@click.option("--keep", is_flag=True, help="Leave the machine running until Ctrl+C.")
def demo(out: Path, prompt: str, seed: int, keep: bool) -> None:  # noqa: FBT001 - click
    """Boot a simulated GPU machine, put one job through its queue, save the picture, stop.

    Everything is real but the GPU: a Valkey server, a service process that speaks ComfyUI's
    protocol, a worker, the states. It needs no Redis, no GPU, no network, and leaves nothing
    behind but the picture.
    """
    with asked_for(out):  # before a machine boots for it
        out.mkdir(parents=True, exist_ok=True)
    sys.exit(asyncio.run(_demo(out, prompt, seed, keep=keep)))


async def _demo(out: Path, prompt: str, seed: int, *, keep: bool) -> int:
    from machine_lifecycle.cli.output import console, show_error  # noqa: PLC0415 - see cli
    from machine_lifecycle.cli.progress import BootView  # noqa: PLC0415
    from machine_lifecycle.lifecycle.events import Event  # noqa: PLC0415
    from machine_lifecycle.machine import Machine  # noqa: PLC0415
    from machine_lifecycle.system.network import free_port  # noqa: PLC0415

    screen = console()
    with tempfile.TemporaryDirectory(prefix="machine-demo-") as folder:
        settings = Settings(
            workers="simulation:1",
            machine_id="demo",
            workspace=Path(folder) / "workspace",
            runtime_dir=Path(folder) / "run",
            redis_mode=RedisMode.EMBEDDED,
            gpu_mode=GpuMode.MOCK,
            health_port=0,
            simulation_base_port=free_port(),
            boot_attempts=1,
        )
        try:
            async with Machine.open(settings, environ=environment(), guest=False) as machine:
                loop = asyncio.get_running_loop()
                for number in (signal.SIGTERM, signal.SIGINT):
                    loop.add_signal_handler(number, machine.request_stop, number.name)
                view = BootView(screen)
                machine.on(Event, view)
                screen.print("A simulated GPU machine boots: WORKERS=simulation:1")
                try:
                    await machine.boot()
                except LifecycleError as error:
                    return error.exit_code  # the view has told it
                screen.print(f"[green]Ready.[/] Its pages: {machine.status().health_url}")
                saved = await _one_job(machine.paths, _graph(prompt, seed), out, screen)
                if not saved:
                    return 1
                if keep:
                    screen.print("Running until Ctrl+C.")
                    await machine.wait()
        except LifecycleError as error:
            show_error(error)
            return error.exit_code
    screen.print(f"[green]Done.[/] The machine has stopped; the picture is [bold]{saved}[/]")
    return 0


async def _one_job(paths: Paths, graph: dict[str, Any], out: Path, screen: Console) -> str:
    """Put the job into the queue, show it, save what it made; its path, empty if it failed."""
    from machine_lifecycle.cli.watching import follow, save_outputs  # noqa: PLC0415 - see cli
    from machine_lifecycle.jobs.client import open_job_queue  # noqa: PLC0415
    from machine_lifecycle.system.valkey import read_discovery  # noqa: PLC0415

    async with open_job_queue(read_discovery(paths).url) as client:
        job_id = await client.submit(graph, service_required="simulation")
        screen.print(f"Job {job_id} is in the queue.")
        (record,) = await follow(client, [job_id], quiet=False)
        if record.status != "completed":
            screen.print(f"[red]The job {record.status}:[/] {record.error}")
            return ""
        (saved,) = await save_outputs(client, record, out)
    return saved


def _graph(prompt: str, seed: int) -> dict[str, Any]:
    packaged = resources.files("machine_lifecycle.cli").joinpath("demo-graph.json")
    graph: dict[str, Any] = json.loads(packaged.read_text(encoding="utf-8"))
    for node in graph.values():
        inputs = node["inputs"]
        if "seed" in inputs:
            inputs["seed"] = seed
        if inputs.get("text") == "PROMPT":
            inputs["text"] = prompt
    return graph
