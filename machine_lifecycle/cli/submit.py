"""``submit``: put a job into the queue, follow it, save what it makes."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import click

from machine_lifecycle.cli.environment import open_paths, open_settings
from machine_lifecycle.cli.queue import open_queue
from machine_lifecycle.cli.watching import PREVIEWS, conclude, watched

__all__ = ["submit"]


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True, path_type=Path))
@click.option("--service", help="What does the job; default: the first that WORKERS serves.")
@click.option(
    "--priority",
    type=click.IntRange(0, 100),
    default=50,
    show_default=True,
    help="Jobs of a higher one go first.",
)
@click.option("--count", type=click.IntRange(1), default=1, help="Submit it so many times.")
@click.option("--watch/--no-watch", default=None, help="Follow it to its end; implied by --out.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Save outputs here.")
@PREVIEWS
@click.option("--timeout-minutes", type=float, help="Minutes that a run may take.")
@click.option(
    "--requirements",
    metavar="JSON",
    callback=lambda _ctx, _option, text: _object(text),
    help="What the worker must have; an object, such as "
    '{"node_packs": ["rgthree-comfy"], "gpu_memory_gb": 24}.',
)
@click.option(
    "--max-retries",
    type=click.IntRange(1),
    default=3,
    show_default=True,
    help="Runs that it may take in all, if they fail and the next may end better.",
)
@click.option(
    "--key",
    default="",
    metavar="TEXT",
    help="Submit it once: a job that was submitted with this key before is taken for this one.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def submit(  # noqa: PLR0917 - click passes options by name
    ctx: click.Context,
    file: Path,
    service: str | None,
    priority: int,
    count: int,
    watch: bool | None,  # noqa: FBT001 - click
    out: Path | None,
    previews: Path | None,
    timeout_minutes: float | None,
    requirements: dict[str, Any] | None,
    max_retries: int,
    key: str,
    as_json: bool,  # noqa: FBT001 - click
) -> None:
    """Put FILE into the queue: a graph in ComfyUI's API form, or a whole payload; `-` reads it
    from stdin.

    With --watch its progress is shown and what it makes is saved to ./outputs; nothing is
    overwritten. Ends with status 1 if a watched job failed. Ctrl+C ends the watching, not the job.

    \b
      machine-lifecycle submit workflow.json --watch
      machine-lifecycle submit workflow.json --service comfyui --count 10
    """  # noqa: D301 - click reads the escape
    from machine_lifecycle.jobs.files import read_payload  # noqa: PLC0415 - only when it runs

    if key and count > 1:
        raise click.UsageError("--key names one job, and --count asks for several")
    payload = read_payload(file)
    asked = service or _first_served(ctx)
    follows = watch or (watch is None and (out is not None or previews is not None))

    async def work() -> list[dict[str, Any]]:
        async with open_queue(ctx) as client:
            ids = [
                await client.submit(
                    payload,
                    service_required=asked,
                    priority=priority,
                    timeout_minutes=timeout_minutes,
                    requirements=requirements,
                    max_retries=max_retries,
                    idempotency_key=key,
                )
                for _ in range(count)
            ]
            if not follows:
                return [{"id": job_id, "status": "pending"} for job_id in ids]
            return await watched(client, ids, out, quiet=as_json, previews=previews)

    conclude(asyncio.run(work()), single=count == 1, as_json=as_json)


def _first_served(ctx: click.Context) -> str:
    """What a machine with these settings serves first.

    Raises:
        LifecycleError: It can't be told from ``WORKERS`` and what that names.
        UsageError: It serves nothing that has a name.
    """
    # Imported here: it loads the mapping and the plug-ins.
    from machine_lifecycle.assembly.planner import MachinePlanner  # noqa: PLC0415

    loaded = open_settings(ctx)
    planner = MachinePlanner(
        settings=loaded.settings, paths=open_paths(ctx), machine_id="", environ=loaded.variables
    )
    served = planner.capabilities()
    if not served:
        raise click.UsageError(f"name a --service: {loaded.settings.workers} says nothing of any")
    return served[0]


def _object(text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    try:
        found = json.loads(text)
    except ValueError as error:
        raise click.BadParameter(f"no JSON: {error}") from error
    if not isinstance(found, dict):
        raise click.BadParameter('no JSON object, such as {"node_packs": ["rgthree-comfy"]}')
    return found
