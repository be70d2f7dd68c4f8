"""``health-server``: the health pages alone, for a machine that another supervisor runs."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from functools import partial
from pathlib import Path

import click

from machine_lifecycle.cli.environment import open_paths, open_settings
from machine_lifecycle.model.paths import Paths
from machine_lifecycle.model.redis_url import RedisUrl
from machine_lifecycle.model.settings import Settings

__all__ = ["health_server"]


@click.command("health-server")
@click.option(
    "--manifest",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="What is meant to run: the process-manifest.json of an export.",
)
@click.option("--host", help="Address to listen on; default: MACHINE_HEALTH_HOST.")
@click.option("--port", type=int, help="Port to listen on; default: MACHINE_HEALTH_PORT.")
@click.pass_context
def health_server(ctx: click.Context, manifest: Path, host: str | None, port: int | None) -> None:
    """Serve the health pages of a machine that PM2, supervisord or systemd runs.

    It looks at every service of the manifest and, through HUB_REDIS_URL, at every worker, each
    five seconds. Nothing can be restarted from its pages.
    """
    settings, paths = open_settings(ctx).settings, open_paths(ctx)
    asyncio.run(
        _serve(
            manifest,
            settings.health_host if host is None else host,
            settings.health_port if port is None else port,
            settings,
            paths,
        )
    )


async def _serve(manifest: Path, host: str, port: int, settings: Settings, paths: Paths) -> None:
    from machine_lifecycle.cli.queue import queue_url  # noqa: PLC0415 - heavy, as are all these
    from machine_lifecycle.fleet.workers import living_workers  # noqa: PLC0415
    from machine_lifecycle.health.outlook import Outlook  # noqa: PLC0415
    from machine_lifecycle.health.server import HealthServer  # noqa: PLC0415
    from machine_lifecycle.plan.outline import read_outline  # noqa: PLC0415
    from machine_lifecycle.system.redis import connect  # noqa: PLC0415

    outline = read_outline(manifest)
    url = queue_url(settings)
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with contextlib.aclosing(connect(url)) as redis:
        outlook = Outlook(
            outline=outline,
            logs=paths.logs,
            facts=partial(living_workers, redis),
            where=RedisUrl.parse(url).address,
        )
        # Its pages only look: those that change something have nobody to ask, token or not.
        server = HealthServer(host, port, outlook, settings.health_token)
        outlook.changed = server.changed
        bound = await server.start()
        outlook.url = f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{bound}"  # noqa: S104
        click.echo(f"health pages: {outlook.url}")
        looking = asyncio.create_task(outlook.watch(), name="outlook")
        try:
            await stopped.wait()
        finally:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)
            await server.close()
