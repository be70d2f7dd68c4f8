"""``boot``: the container's entry point, and what a person runs."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import sys
from collections.abc import Callable

import click

from machine_lifecycle.cli.environment import environment, open_settings
from machine_lifecycle.config.settings import LoadedSettings
from machine_lifecycle.errors import LifecycleError
from machine_lifecycle.model.settings import LogFormat, Settings
from machine_lifecycle.model.status import ConditionKind, StatusReport

__all__ = ["boot", "live"]


@click.command()
@click.option(
    "--events",
    "events_format",
    type=click.Choice(["jsonl"]),
    help="Write every event to stdout, one JSON object a line; logs go to stderr.",
)
@click.pass_context
def boot(ctx: click.Context, events_format: str | None) -> None:
    """Boot this machine and run until told to stop.

    SIGTERM and SIGINT stop it within MACHINE_STOP_TIMEOUT (10 s); a second one forces.

    Exit status: 0 stopped well, 2 bad configuration, 3 boot failed, 4 a gate refused, 130 or 143
    when a second signal forced the end.
    """
    loaded = open_settings(ctx)
    for warning in loaded.warnings:
        click.echo(f"warning: {warning}", err=True)

    def reread() -> Settings:
        return open_settings(ctx).settings

    sys.exit(asyncio.run(live(loaded, jsonl=events_format == "jsonl", reread=reread)))


async def live(
    loaded: LoadedSettings, *, jsonl: bool, reread: Callable[[], Settings] | None = None
) -> int:
    """Open, boot, wait, stop; the exit status. Errors are told where they happen."""
    from machine_lifecycle.system.logs import configure_logging  # noqa: PLC0415 - see cli

    settings = loaded.settings
    out = sys.stderr if jsonl else sys.stdout
    pretty = out.isatty() and settings.log_format is LogFormat.AUTO and settings.log_level == "info"
    level = "warning" if pretty else settings.log_level
    configure_logging(level, settings.log_format, out, colour="NO_COLOR" not in environment())
    while True:
        code, again = await _one_life(loaded, jsonl=jsonl, pretty=pretty, reread=reread)
        if not again:
            return code


async def _one_life(
    loaded: LoadedSettings,
    *,
    jsonl: bool,
    pretty: bool,
    reread: Callable[[], Settings] | None = None,
) -> tuple[int, bool]:
    from machine_lifecycle.cli.output import console, show_error  # noqa: PLC0415 - see cli
    from machine_lifecycle.lifecycle.events import Event  # noqa: PLC0415
    from machine_lifecycle.machine import Machine  # noqa: PLC0415

    try:
        async with Machine.open(
            loaded.settings, environ=loaded.variables, guest=False, reread=reread
        ) as machine:
            loop = asyncio.get_running_loop()
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, _stopper(machine.request_stop, number))
            if jsonl:
                machine.on(Event, _write_line)
            if pretty:
                from machine_lifecycle.cli.progress import BootView  # noqa: PLC0415 - rich

                machine.on(Event, BootView(console(stderr=jsonl)))
            else:
                from machine_lifecycle.cli.narration import Narrator  # noqa: PLC0415

                machine.on(Event, Narrator(logging.getLogger("machine_lifecycle.machine")))
            try:
                await machine.boot()
            except LifecycleError:
                pass  # the observer has told it; with ON_FAILED=stay the machine lives on
            else:
                if pretty:
                    _tell_ready(machine.status())
            return await machine.wait(), machine.restart_requested
    except LifecycleError as error:
        show_error(error)
        return error.exit_code, False


def _stopper(request: Callable[..., None], number: signal.Signals) -> Callable[[], None]:
    return lambda: request(number.name, signal=number.name)


def _write_line(event: object) -> None:
    to_wire = event.to_wire  # type: ignore[attr-defined]  # an Event; not imported at the top
    sys.stdout.write(json.dumps(to_wire(), separators=(",", ":")) + "\n")
    sys.stdout.flush()


def _tell_ready(report: StatusReport) -> None:
    degraded = report.condition(ConditionKind.DEGRADED)
    click.echo(
        f"Ready{f', degraded: {degraded.reason}' if degraded else '.'}"
        f"{chr(10) if degraded else ' '}"
        f"Pages: {report.health_url}   Jobs: machine-lifecycle submit FILE   Stop: Ctrl+C"
    )
