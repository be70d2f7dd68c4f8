"""``plan``: what a boot would install and start. Writes nothing, connects to nothing."""

from __future__ import annotations

import shlex

import click

from machine_lifecycle.cli.environment import open_paths, open_settings
from machine_lifecycle.cli.output import console, emit_json, table
from machine_lifecycle.model.hardware import Hardware
from machine_lifecycle.model.plan import BootPlan
from machine_lifecycle.model.processes import ProcessSpec

__all__ = ["plan"]


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the manifest as JSON.")
@click.pass_context
def plan(ctx: click.Context, as_json: bool) -> None:  # noqa: FBT001 - click
    """Show what a boot would install and start; changes nothing."""
    # Imported here: these load psutil and the drivers.
    from machine_lifecycle.assembly.planner import MachinePlanner  # noqa: PLC0415
    from machine_lifecycle.plan.manifest import plan_values  # noqa: PLC0415
    from machine_lifecycle.system.gpus import detect  # noqa: PLC0415
    from machine_lifecycle.system.identity import machine_id  # noqa: PLC0415

    loaded = open_settings(ctx)
    paths = open_paths(ctx)
    identity, origin = machine_id(loaded.settings, loaded.variables, paths, create=False)
    planner = MachinePlanner(
        settings=loaded.settings, paths=paths, machine_id=identity, environ=loaded.variables
    )
    warnings = (*loaded.warnings, *planner.mapping().warnings)
    made = planner.plan(detect(loaded.settings))
    health = loaded.settings.health_port
    warnings += _taken(made, health)
    if as_json:
        values = plan_values(made)
        emit_json({**values, "listing": list(made.listing), "warnings": list(warnings)})
        return
    click.echo(f"machine {identity} (from {origin})")
    click.echo(f"hardware {_hardware(made.hardware)}")
    for note in made.hardware.notes:
        click.echo(f"  {note}")
    _installs(made)
    _processes(made, health)
    _workers(made)
    for warning in warnings:
        console(stderr=True).print(f"warning: {warning}", markup=False)


def _taken(made: BootPlan, health: int) -> tuple[str, ...]:
    """Which ports somebody listens on now: perhaps this machine, which runs already."""
    from machine_lifecycle.system.network import listeners  # noqa: PLC0415 - loads psutil

    found = listeners()
    wanted = [("health-server", health), *((spec.name, spec.port) for spec in made.processes)]
    return tuple(
        f"port {port}, meant for {name}, is taken now by {found[port]}"
        for name, port in wanted
        if port and port in found
    )


def _hardware(hardware: Hardware) -> str:
    if not hardware.gpus:
        gpus = "no GPU"
    else:
        first = hardware.gpus[0]
        size = f"{first.memory_mib / 1024:.0f} GiB"
        gpus = f"{len(hardware.gpus)} x {first.name}, {size} (by {hardware.source.value})"
    return f"{gpus}; {hardware.cpus} processors, {hardware.memory_mib / 1024:.0f} GiB"


def _installs(made: BootPlan) -> None:
    for one in made.installs:
        click.echo(f"install {one.service}: {one.installer or 'nothing to install'}")
    click.echo()


def _processes(made: BootPlan, health: int) -> None:
    rows = [("health-server", "support", str(health) if health else "any", "", "")]
    rows += [_row(spec) for spec in made.processes]
    table(("process", "role", "port", "gpu", "needs"), rows)
    click.echo()
    for spec in made.processes:
        click.echo(f"{spec.name}: {shlex.join(spec.command.argv)}")
    click.echo()


def _row(spec: ProcessSpec) -> tuple[str, str, str, str, str]:
    return (
        spec.name,
        spec.role.value,
        "" if spec.port is None else str(spec.port),
        "" if spec.gpu is None else str(spec.gpu),
        ", ".join(spec.needs),
    )


def _workers(made: BootPlan) -> None:
    rows = [
        (one.id, ", ".join(f"{asks} -> {does}" for asks, does in one.capabilities.items()))
        for one in made.workers
    ]
    table(("worker", "does"), rows)
