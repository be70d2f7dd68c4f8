"""Commands to the running machine: ``ps``, ``logs``, ``stop``, ``status``, drains."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Any

import click

from machine_lifecycle.cli.output import (
    console,
    emit_json,
    human_bytes,
    human_seconds,
    print_error,
    table,
)
from machine_lifecycle.cli.packs import pack_summary
from machine_lifecycle.cli.queue import open_queue
from machine_lifecycle.cli.talking import PROCESS, ask
from machine_lifecycle.cli.times import SINCE
from machine_lifecycle.control.client import ControlClient
from machine_lifecycle.control.errors import MachineUnresponsive
from machine_lifecycle.errors import ExitCode
from machine_lifecycle.model.packs import Loaded, PackState
from machine_lifecycle.system.errors import MachineNotRunning

if TYPE_CHECKING:
    from machine_lifecycle.jobs.client import JobQueue

__all__ = ["drain", "logs", "ps", "status", "stop", "undrain"]

_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_COLOURS = ("cyan", "green", "yellow", "magenta", "blue", "bright_cyan", "bright_green")
_STATE_COLOURS = {"ready": "green", "processing": "green", "failed": "red", "fatal": "red"}


def _coloured(word: str) -> str:
    return f"[{_STATE_COLOURS.get(word, 'yellow')}]{word}[/]"


def _escaped(value: Any) -> str:
    from rich.markup import escape  # noqa: PLC0415 - 60 ms that --json does without

    return "" if value is None else escape(str(value))


@click.command()
@_json
@click.pass_context
def ps(ctx: click.Context, as_json: bool) -> None:  # noqa: FBT001 - click passes options so
    """List the running machine's processes and what they use."""
    found = ask(ctx, lambda client: client.call("ps"))
    if as_json:
        emit_json(found)
        return
    columns = (
        "name",
        "state",
        "pid",
        "port",
        "gpu",
        "uptime",
        "restarts",
        "cpu",
        "mem",
        "pss",
        "vram",
        "gpu use",
        "fds",
        "waits",
    )
    table(columns, [_process_row(process) for process in found])


def _process_row(process: dict[str, Any]) -> list[str]:
    used = process["figures"]
    up = process["pid"] is not None and process["started"] is not None
    last = process["last_exit"]
    waits = process["waiting_for"] or (last["reason"] if last and not process["ready"] else "")
    return [
        _escaped(process["name"]),
        _coloured("ready" if process["ready"] else process["state"]),
        _escaped(process["pid"]),
        _escaped(process["port"]),
        _escaped(process["gpu"]),
        human_seconds(max(0.0, time.time() - process["started"])) if up else "",
        str(process["restarts"]),
        f"{used['cpu_percent']:.0f}%" if used else "",
        human_bytes(used["memory_bytes"]) if used else "",
        human_bytes(used["share_bytes"]) if used and used["share_bytes"] else "",
        human_bytes(used["gpu_memory_bytes"]) if used and used["gpu_memory_bytes"] else "",
        f"{used['gpu_percent']:.0f}%" if used and used.get("gpu_percent") is not None else "",
        str(used["descriptors"]) if used else "",
        _escaped(waits),
    ]


@click.command()
@click.argument("names", nargs=-1, type=PROCESS, metavar="[NAME]...")
@click.option("-f", "--follow", is_flag=True, help="Go on with new lines until interrupted.")
@click.option(
    "-n",
    "--lines",
    type=click.IntRange(0, 100_000),
    default=50,
    show_default=True,
    help="Lines of each log to begin with.",
)
@click.option(
    "--since",
    type=SINCE,
    help="All lines since then instead: 90s, 10m, 2h, 1d ago, or a time such as 2026-01-31T08:00.",
)
@_json
@click.pass_context
def logs(  # noqa: PLR0917 - click passes options by name
    ctx: click.Context,
    names: tuple[str, ...],
    follow: bool,  # noqa: FBT001 - click passes options so
    lines: int,
    since: float | None,
    as_json: bool,  # noqa: FBT001 - likewise
) -> None:
    """Show the logs of processes, all of them if none is named.

    Lines of several processes are told in order of time. With --json, one object a line: name,
    line and time (seconds since 1970).
    """

    async def show(client: ControlClient) -> None:
        colours: dict[str, str] = {}
        asked = client.stream("logs", names=list(names), lines=lines, since=since, follow=follow)
        async with aclosing(asked) as items:
            async for item in items:
                _show_line(item, as_json=as_json, prefix=len(names) != 1, colours=colours)

    with suppress(KeyboardInterrupt):  # how a person ends --follow
        ask(ctx, show)


def _show_line(
    item: dict[str, str], *, as_json: bool, prefix: bool, colours: dict[str, str]
) -> None:
    import json  # noqa: PLC0415 - beside its one use

    if as_json:
        click.echo(json.dumps(item, ensure_ascii=False))
        return
    name = item["name"]
    colour = colours.setdefault(name, _COLOURS[len(colours) % len(_COLOURS)])
    click.echo((click.style(f"{name} | ", fg=colour) if prefix else "") + item["line"])


@click.command()
@click.argument("name", required=False, type=PROCESS)
@click.option("--no-wait", is_flag=True, help="Return at once; only without a name.")
@click.pass_context
def stop(ctx: click.Context, name: str | None, no_wait: bool) -> None:  # noqa: FBT001 - click
    """Stop the running machine, or keep one process of it stopped.

    Without a name it waits until the machine is down. Exit status 3 if no machine runs.
    """
    if name is not None:
        ask(ctx, lambda client: client.call("stop_process", name=name))
        click.echo(f"{name} stops, and stays so until: machine-lifecycle start {name}")
        return
    ask(ctx, lambda client: _stop_machine(client, wait=not no_wait))


async def _stop_machine(client: ControlClient, *, wait: bool) -> None:
    if not wait:
        await client.call("shutdown")
        click.echo("the machine stops")
        return
    began = time.monotonic()
    async with aclosing(client.stream("events")) as events:
        first = asyncio.ensure_future(anext(events, None))
        await client.call("shutdown")
        # The stream ends when the machine is down, with an end mark or because the machine, and
        # its socket with it, is gone.
        with suppress(MachineUnresponsive, MachineNotRunning):
            event = await first
            while event is not None:
                _tell_stop(event)
                event = await anext(events, None)
    click.echo(f"stopped in {human_seconds(time.monotonic() - began)}")


def _tell_stop(event: dict[str, Any]) -> None:
    if event.get("kind") == "changed":
        click.echo(f"{event.get('source')} -> {event.get('target')}")
    elif event.get("kind") == "process_changed":
        process = event.get("process", {})
        if process.get("state") in ("stopped", "exited", "fatal"):
            click.echo(f"  {process.get('name')} ended")


_OTHER_MACHINE = click.option(
    "--machine", "machine_id", metavar="ID", help="Another machine of the fleet, by Redis."
)


@click.command()
@_OTHER_MACHINE
@click.pass_context
def drain(ctx: click.Context, machine_id: str | None) -> None:
    """Let running jobs end and take no further ones.

    With --machine it is the queue that gives that machine no more jobs, from this moment on, until
    an undrain: also when the machine can't be reached, is not up yet or starts anew.
    """
    if machine_id:
        _order(ctx, lambda queue: queue.drain(machine_id))
    else:
        ask(ctx, lambda client: client.call("drain"))
    again = f" --machine {machine_id}" if machine_id else ""
    click.echo(f"draining; take jobs again with: machine-lifecycle undrain{again}")


@click.command()
@_OTHER_MACHINE
@click.pass_context
def undrain(ctx: click.Context, machine_id: str | None) -> None:
    """Take jobs again after a drain."""
    if machine_id:
        _order(ctx, lambda queue: queue.undrain(machine_id))
    else:
        ask(ctx, lambda client: client.call("undrain"))
    click.echo("taking jobs again")


def _order(ctx: click.Context, order: Callable[[JobQueue], Awaitable[int]]) -> None:
    async def work() -> int:
        async with open_queue(ctx) as queue:
            return await order(queue)

    told = asyncio.run(work())
    click.echo(f"{told} workers of it are told" if told else "no worker of it is up: it is kept")


@click.command()
@_json
@click.pass_context
def status(ctx: click.Context, as_json: bool) -> None:  # noqa: FBT001 - click passes options so
    """Show how the running machine does.

    Exit status 0 if it takes jobs, 3 if it does not or is not running.
    """
    report = ask(ctx, lambda client: client.call("status"))
    if as_json:
        emit_json(report)
    else:
        _show_report(report)
    if report["state"] not in ("ready", "processing"):
        ctx.exit(ExitCode.BOOT_FAILED)


def _show_report(report: dict[str, Any]) -> None:
    out = console()
    here = human_seconds(max(0.0, time.time() - report["since"]))
    out.print(
        f"[bold]{_escaped(report['machine_id'])}[/]  {_coloured(report['state'])} for {here}"
        f"  [dim]attempt {report['attempt']}, pid {report['pid']}, version {report['version']}[/]"
    )
    for condition in report["conditions"]:
        out.print(f"  [yellow]{condition['kind']}[/]: {_escaped(condition['reason'])}")
    for what in report["waiting"]:
        out.print(f"  waiting for {_escaped(what)}")
    if report["failure"]:
        print_error(out, report["failure"], indent="  ")
    queue = "connected" if report["redis_connected"] else "[red]not connected[/]"
    out.print(f"  queue    {queue} {_escaped(report['redis_where'])}")
    if report["redis_trouble"]:
        out.print(f"           [red]{_escaped(report['redis_trouble'])}[/]")
    out.print(f"  pages    {_escaped(report['health_url']) or 'none'}")
    gpus = ", ".join(gpu["name"] for gpu in report["hardware"]["gpus"]) or "none"
    out.print(f"  GPUs     {_escaped(gpus)}")
    out.print(
        f"  jobs     {report['jobs_running']} running, {report['jobs_completed']} completed,"
        f" {report['jobs_failed']} failed"
    )
    if report["workers"]:
        out.print()
        rows = [
            [
                _escaped(worker["id"]),
                _escaped(worker["status"]),
                _escaped(worker["current_job_id"]),
                _escaped(worker["trouble"]),
            ]
            for worker in report["workers"]
        ]
        table(("worker", "does", "job", "trouble"), rows)
    if any(one["packs"] for one in report["loaded"]):
        out.print()
    for one in report["loaded"]:
        _show_packs(Loaded.from_wire(one))
    if report["timings"]:
        out.print()
        rows = [
            [visit["state"], _duration(visit), _usual(visit["expected"])]
            for visit in report["timings"]
        ]
        table(("state", "took", "usual"), rows)
        if took := _boot_took(report):
            out.print(f"ready {human_seconds(took)} after the start")


def _show_packs(loaded: Loaded) -> None:
    if not loaded.packs:
        return
    out = console()
    out.print(f"{_escaped(loaded.instance)}: {_escaped(pack_summary(loaded.packs))}")
    for pack in loaded.packs:
        if pack.state is not PackState.LOADED:
            out.print(f"  [yellow]{pack.state.value}[/] {_escaped(pack.name)}:", end=" ")
            out.print(_escaped(pack.reason))


def _boot_took(report: dict[str, Any]) -> float | None:
    """Seconds from the beginning of this attempt until the machine was ready first."""
    starts = {
        visit["state"]: visit["started"]
        for visit in reversed(report["timings"])  # of several visits of a state the first counts
        if visit["attempt"] == report["attempt"]
    }
    if not {"starting", "ready"} <= starts.keys():
        return None
    return float(starts["ready"] - starts["starting"])


def _duration(visit: dict[str, Any]) -> str:
    if visit["seconds"] is None:
        return f"{human_seconds(max(0.0, time.time() - visit['started']))} so far"
    return human_seconds(visit["seconds"])


def _usual(expected: list[float] | None) -> str:
    return f"{expected[0]:g}-{expected[1]:g} s" if expected else ""
