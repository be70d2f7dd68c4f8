"""``install``: what a boot would install, without the boot."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import Iterator

import click

from machine_lifecycle.cli.environment import open_settings
from machine_lifecycle.cli.output import console, emit_json, human_seconds, show_error
from machine_lifecycle.errors import ExitCode
from machine_lifecycle.model.progress import ProgressSink

__all__ = ["install"]


class _Lines:
    """A line on stderr for each step, and one for each new thing that it does."""

    def __init__(self) -> None:
        self._said: dict[str, str] = {}

    def step(self, name: str, detail: str = "", *, done: int = 0, total: int = 0) -> None:
        """Say what a step does now, unless only a count went on."""
        del done, total
        if detail and self._said.get(name) != detail:
            self._said[name] = detail
            click.echo(f"{name}: {detail}", err=True)

    def finished(self, name: str, *, seconds: float, skipped: bool = False) -> None:
        """Say that a step is over."""
        how = "nothing to do" if skipped else f"done in {human_seconds(seconds)}"
        click.echo(f"{name}: {how}", err=True)


@contextlib.contextmanager
def _shown() -> Iterator[ProgressSink]:
    """What runs, drawn on a terminal; elsewhere lines."""
    if not sys.stderr.isatty():
        yield _Lines()
        return
    from machine_lifecycle.cli.running_steps import RunningSteps  # noqa: PLC0415 - rich

    steps = RunningSteps(console(stderr=True), "installing")
    try:
        yield steps
    finally:
        steps.close()


@click.command()
@click.option("--strict", is_flag=True, help="Fail if anything is left out, required or not.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def install(ctx: click.Context, strict: bool, as_json: bool) -> None:  # noqa: FBT001 - click
    """Install what a boot would install, and stop there: to make an image, or to warm a volume.

    Needs no queue and no GPU, and starts nothing. A boot with the same settings finds it done. For
    a build of torch that fits the GPUs of the machines, set TORCH_BACKEND (such as cu126).
    """
    # Imported here: it loads psutil and the drivers.
    from machine_lifecycle.assembly.provisioning import provision  # noqa: PLC0415

    loaded = open_settings(ctx)
    began = time.monotonic()
    with _shown() as progress:
        made = asyncio.run(provision(loaded.settings, loaded.variables, progress))
    if as_json:
        emit_json(made.value())
    elif not made.services:
        click.echo("nothing to install: no service of WORKERS has an installer")
    else:
        how = f"{made.done} steps" if made.done else "all was there"
        took = human_seconds(time.monotonic() - began)
        click.echo(f"installed {', '.join(made.services)}: {how}, {took}")
    for name, error in made.failures.items():
        click.echo(f"left out: {name}", err=True)
        show_error(error)
    if strict and made.failures:
        sys.exit(ExitCode.BOOT_FAILED)
