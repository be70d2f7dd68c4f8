"""``status``: how the running machine does, what it waits for, what went wrong."""

from __future__ import annotations

import time
from typing import Any

import click

from machine_lifecycle.cli.output import (
    cell,
    coloured,
    console,
    emit_json,
    human_seconds,
    print_error,
    table,
)
from machine_lifecycle.cli.packs import pack_summary
from machine_lifecycle.cli.talking import ask
from machine_lifecycle.errors import ExitCode
from machine_lifecycle.model.packs import Loaded, PackState

__all__ = ["status"]


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
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
        f"[bold]{cell(report['machine_id'])}[/]  {coloured(report['state'])} for {here}"
        f"  [dim]attempt {report['attempt']}, pid {report['pid']}, version {report['version']}[/]"
    )
    for condition in report["conditions"]:
        out.print(f"  [yellow]{condition['kind']}[/]: {cell(condition['reason'])}")
    for what in report["waiting"]:
        out.print(f"  waiting for {cell(what)}")
    if report["failure"]:
        print_error(out, report["failure"], indent="  ")
    queue = "connected" if report["redis_connected"] else "[red]not connected[/]"
    # An address is there to be copied: it is not folded.
    out.print(f"  queue    {queue} {cell(report['redis_where'])}", soft_wrap=True)
    if report["redis_trouble"]:
        out.print(f"           [red]{cell(report['redis_trouble'])}[/]")
    out.print(f"  pages    {cell(report['health_url']) or 'none'}")
    gpus = ", ".join(gpu["name"] for gpu in report["hardware"]["gpus"]) or "none"
    out.print(f"  GPUs     {cell(gpus)}")
    out.print(
        f"  jobs     {report['jobs_running']} running, {report['jobs_completed']} completed,"
        f" {report['jobs_failed']} failed"
    )
    if report["workers"]:
        out.print()
        rows = [
            [
                cell(worker["id"]),
                cell(worker["status"]),
                cell(worker["current_job_id"]),
                cell(worker["trouble"]),
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
    out.print(f"{cell(loaded.instance)}: {cell(pack_summary(loaded.packs))}")
    for pack in loaded.packs:
        if pack.state is not PackState.LOADED:
            out.print(f"  [yellow]{pack.state.value}[/] {cell(pack.name)}:", end=" ")
            out.print(cell(pack.reason))


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
