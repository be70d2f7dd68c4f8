"""An installer: what it plans, and what a second boot finds done."""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping
from pathlib import Path

from machine_lifecycle.installers.execute import Executor
from machine_lifecycle.model.hardware import Hardware
from machine_lifecycle.model.installing import InstallContext, Installer
from machine_lifecycle.model.plan import InstallPlan
from machine_lifecycle.model.progress import Unheard
from machine_lifecycle.model.settings import Settings
from machine_lifecycle.testing.folders import paths_in
from machine_lifecycle.testing.rules import Rules

__all__ = ["check_installer"]


async def check_installer(
    installer: Installer,
    *,
    folder: Path,
    service: str,
    settings: Settings | None = None,
    environ: Mapping[str, str] | None = None,
) -> None:
    """Plan, install, and install again.

    Args:
        installer: What plans the steps.
        folder: For everything that is written; empty.
        service: Whose installer it is.
        settings: Of the machine.
        environ: What its programs are given; this process's own environment if not given.

    Raises:
        RulesBroken: With every rule that does not hold.
        LifecycleError: A step failed.
    """
    rules = Rules(f"installer of {service}")
    paths = paths_in(folder)
    inherited = dict(os.environ if environ is None else environ)  # noqa: TID251 - see the argument
    context = InstallContext(
        service=service,
        settings=settings or Settings(),
        environ=inherited,
        hardware=Hardware(),
        paths=paths,
    )
    if inspect.iscoroutinefunction(installer.plan):
        rules.hold(False, "plan() is a coroutine function: it only decides, so it need not wait")  # noqa: FBT003
        rules.judge()
    before = _files(folder)
    steps, again = installer.plan(context), installer.plan(context)
    rules.hold(_files(folder) == before, "plan() writes: only steps may, when they are run")
    same = [(step.id, step.fingerprint) for step in steps]
    rules.hold(
        same == [(step.id, step.fingerprint) for step in again],
        "plan() gives other ids or fingerprints at the second call: nothing is ever skipped",
    )
    ids = [step.id for step in steps]
    rules.hold(len(set(ids)) == len(ids), "two steps have one id")
    for position, step in enumerate(steps):
        early = set(step.needs) - set(ids[:position])
        rules.hold(not early, f"step {step.id} needs {early}, which do not come before it")
        rules.hold(bool(step.summary), f"step {step.id} has no summary")
        rules.hold(step.timeout > 0, f"step {step.id} has no time")
        rules.hold(step.stage in {"base", "nodes"}, f"step {step.id} is of stage {step.stage!r}")
    rules.judge()
    plan = InstallPlan(service=service, installer=service)
    for attempt in ("first", "second"):
        executor = Executor(
            paths, settings=settings, environ=inherited, resolve=lambda _: installer
        )
        done = 0
        for stage in ("base", "nodes"):
            done += await executor.install(plan, stage, Unheard())
        repeated = attempt == "second" and done > 0
        rules.hold(not repeated, f"{done} steps are done again at the second boot")
    for step in installer.plan(context):
        rules.hold(step.present(), f"step {step.id} is done, and present() says that it is not")
    rules.judge()


def _files(folder: Path) -> dict[Path, int]:
    return {path: path.lstat().st_mtime_ns for path in folder.rglob("*")}
