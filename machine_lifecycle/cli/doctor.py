"""``doctor``: everything that a boot needs, looked at before it."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

import click

from machine_lifecycle.cli.environment import open_paths, open_settings
from machine_lifecycle.cli.output import console, emit_json, human_seconds, print_remedies
from machine_lifecycle.errors import ExitCode

if TYPE_CHECKING:
    from machine_lifecycle.assembly.doctor import Finding

__all__ = ["doctor"]

_MARKS = {"pass": "[green]ok[/]  ", "warn": "[yellow]warn[/]", "fail": "[red]fail[/]"}
_SKIPPED = "[dim]--[/]  "
_SLOW = 1.0


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def doctor(ctx: click.Context, as_json: bool) -> None:  # noqa: FBT001 - click
    """Look at everything that a boot of this machine needs; change nothing.

    Clock, folders, disk, inodes, driver and GPUs, mapping, plan, ports, git, uv, Python, lists of
    packs and models, Redis: a line each, with what to do about it. Ends with status 2 if something
    would make a boot fail; what may be past by then is a warning.
    """
    findings = asyncio.run(_examine(ctx, as_json=as_json))
    if as_json:
        emit_json([_value(finding) for finding in findings])
    failed = [finding.name for finding in findings if finding.verdict.value == "fail"]
    doubtful = [finding.name for finding in findings if finding.verdict.value == "warn"]
    if not as_json:
        fails = f"{len(failed)} of {len(findings)} would make a boot fail" if failed else ""
        may = f"{', '.join(doubtful)} may make a boot fail" if doubtful else ""
        click.echo("; ".join(filter(None, (fails, may))) or "all well")
    sys.exit(ExitCode.CONFIGURATION if failed else ExitCode.OK)


async def _examine(ctx: click.Context, *, as_json: bool) -> list[Finding]:
    # Imported here: these load psutil and the drivers.
    from machine_lifecycle.assembly.doctor import examine  # noqa: PLC0415
    from machine_lifecycle.system.identity import machine_id  # noqa: PLC0415

    loaded, paths = open_settings(ctx), open_paths(ctx)
    identity, _ = machine_id(loaded.settings, loaded.variables, paths, create=False)
    findings = []
    async for finding in examine(loaded.settings, loaded.variables, paths, identity):
        findings.append(finding)
        if not as_json:
            _show(finding)
    return findings


def _show(finding: Finding) -> None:
    from rich.markup import escape  # noqa: PLC0415 - 60 ms that --json does without

    out = console()
    mark = _MARKS.get(finding.verdict.value, _SKIPPED)
    slow = f" [dim]({human_seconds(finding.seconds)})[/]" if finding.seconds > _SLOW else ""
    out.print(f"{mark} {finding.name:<10} {escape(finding.detail)}{slow}", soft_wrap=True)
    if finding.error is None:
        return
    for part in finding.error.parts():
        if part is not finding.error:
            out.print(f"     {escape(part.summary)} [dim]\\[{part.code}][/]", soft_wrap=True)
        print_remedies(out, part.to_wire()["remedies"], indent="     ")


def _value(finding: Finding) -> dict[str, object]:
    return {
        "name": finding.name,
        "verdict": finding.verdict.value,
        "detail": finding.detail,
        "seconds": round(finding.seconds, 3),
        "error": finding.error.to_wire() if finding.error else None,
    }
