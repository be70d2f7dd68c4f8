"""Holding what no node pack may move: said before others' code runs, looked at afterwards."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

from machine_lifecycle.installers.compiling import LockedPackage
from machine_lifecycle.installers.package_errors import (
    PackagesChanged,
    PackagesFailed,
    TorchChanged,
)
from machine_lifecycle.installers.packages import Environment
from machine_lifecycle.installers.protection import moved
from machine_lifecycle.installers.variables import shown_constraints
from machine_lifecycle.model.installing import StepContext
from machine_lifecycle.system.files import write_atomically

__all__ = ["check_unmoved", "moved_since", "protect", "repairing"]


def protect(environment: Environment, packages: Sequence[LockedPackage] = ()) -> None:
    """Hold these packages from now on, beside torch and what the machine's environment says."""
    environ = environment.environ
    named = environ.get("UV_CONSTRAINT") or environ.get("PIP_CONSTRAINT") or ""
    environment.constraints.parent.mkdir(parents=True, exist_ok=True)
    environment.constraints.touch()
    further = (environment.constraints, *(Path(one) for one in named.split() if "://" not in one))
    environment.protection.write(packages, further=further)
    if environment.ours and environment.python.exists():
        # In the environment itself too, as pip's "site" configuration: a program that starts pip
        # without our variables is held as well.
        held = shown_constraints(environment.protection.constraints)
        file = environment.python.parent.parent / "pip.conf"
        write_atomically(file, f"[global]\nconstraint = {held}\n")


async def check_unmoved(
    environment: Environment,
    ctx: StepContext,
    by: str,
    packages: Sequence[LockedPackage] | None = None,
) -> None:
    """Check that what is protected is what it was; if not, put it back.

    Args:
        environment: Which.
        ctx: Runs uv.
        by: Who may have changed it.
        packages: Those that are there by now, beside torch; ``None``: all that are protected.

    Raises:
        PackagesChanged: *by* changed some of it.
    """
    _, torch = environment.pinned()
    pins = environment.protection.pins()
    if packages is not None:
        there = {one.name for one in packages}
        pins = {name: version for name, version in pins.items() if name in there}
    changed = moved(pins | torch, await environment.versions(ctx))
    if not changed:
        return
    problem = ""
    try:
        await _put_back(environment, ctx, torch, {name for name, _, _ in changed})
    except PackagesFailed as error:
        problem = error.summary
    kind = TorchChanged if any(name in torch for name, _, _ in changed) else PackagesChanged
    before = tuple(f"{name}=={version}" if version else name for name, version, _ in changed)
    after = tuple(f"{name}=={found}" if found else "nothing" for name, _, found in changed)
    raise kind(before=before, after=after, by=by, python=environment.python, problem=problem)


def moved_since(environment: Environment) -> tuple[str, ...]:
    """What of the protected packages is other than it was installed, a line each: by whatever a
    pack did while it was imported, say. A quick look at folders, which changes nothing.
    """
    pins = environment.protection.pins() | environment.pinned()[1]
    return tuple(
        f"{name} {version}, now {now or 'gone'}".replace("  ", " ")
        for name, version, now in moved(pins, environment.site_packages.found())
    )


def repairing(
    environment: Environment, by: str, packages: Sequence[LockedPackage] | None = None
) -> Callable[[StepContext], Awaitable[None]]:
    """What puts the environment right after an installation or a script that was cut short; the
    arguments are those of ``check_unmoved``.
    """

    async def repair(ctx: StepContext) -> None:
        async with environment.changing(ctx):
            pass  # entering mends packages that were left half installed
        await check_unmoved(environment, ctx, by, packages)

    return repair


async def _put_back(
    environment: Environment, ctx: StepContext, torch: Mapping[str, str], names: set[str]
) -> None:
    if lines := environment.protection.lines(names):
        file = environment.constraints.with_name("put-back.txt")
        write_atomically(file, "".join(f"{line}\n" for line in lines))
        words = ("--no-deps", "--reinstall", "-r", str(file))
        await environment.install(ctx, words, shown="what was changed")
    if names & (torch.keys() - environment.protection.pins().keys()):
        await environment.put_back(ctx, torch)
