"""``ps``, ``start``, ``restart``, ``signal``: the running machine's processes."""

from __future__ import annotations

import time
from typing import Any

import click

from machine_lifecycle.cli.output import (
    cell,
    coloured,
    emit_json,
    human_bytes,
    human_seconds,
    table,
)
from machine_lifecycle.cli.talking import PROCESS, SIGNAL, ask, ask_each

__all__ = ["ps", "restart", "signal_process", "start"]


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
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
        cell(process["name"]),
        coloured("ready" if process["ready"] else process["state"]),
        cell(process["pid"]),
        cell(process["port"]),
        cell(process["gpu"]),
        human_seconds(max(0.0, time.time() - process["started"])) if up else "",
        str(process["restarts"]),
        f"{used['cpu_percent']:.0f}%" if used else "",
        human_bytes(used["memory_bytes"]) if used else "",
        human_bytes(used["share_bytes"]) if used and used["share_bytes"] else "",
        human_bytes(used["gpu_memory_bytes"]) if used and used["gpu_memory_bytes"] else "",
        f"{used['gpu_percent']:.0f}%" if used and used.get("gpu_percent") is not None else "",
        str(used["descriptors"]) if used else "",
        cell(waits),
    ]


@click.command()
@click.argument("names", nargs=-1, required=True, type=PROCESS, metavar="NAME...")
@click.pass_context
def start(ctx: click.Context, names: tuple[str, ...]) -> None:
    """Start processes that are stopped, have ended or were given up."""
    ask_each(ctx, "start_process", names, "{name} starts; see: machine-lifecycle ps")


@click.command()
@click.argument("names", nargs=-1, required=True, type=PROCESS, metavar="NAME...")
@click.pass_context
def restart(ctx: click.Context, names: tuple[str, ...]) -> None:
    """Restart processes of the running machine, one after another."""
    ask_each(ctx, "restart", names, "{name} restarts; see: machine-lifecycle ps")


@click.command("signal")
@click.argument("name", type=PROCESS)
@click.argument("signal", type=SIGNAL)
@click.pass_context
def signal_process(ctx: click.Context, name: str, signal: str) -> None:
    """Send a signal to one process: HUP, SIGUSR1, 10. What it started hears nothing."""
    ask(ctx, lambda client: client.call("signal_process", name=name, signal=signal))
    click.echo(f"{name} was sent {signal}")
