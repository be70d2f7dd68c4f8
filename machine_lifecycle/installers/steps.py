"""What steps of several installers do: bring a repository to a folder, install what a file asks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import attrs

from machine_lifecycle.installers.base import fingerprint
from machine_lifecycle.installers.comfyui_settings import kept_commits
from machine_lifecycle.installers.git import bring
from machine_lifecycle.installers.guarding import check_unmoved
from machine_lifecycle.installers.hosts import Hosts
from machine_lifecycle.installers.origins import Origins
from machine_lifecycle.installers.packages import Environment
from machine_lifecycle.installers.repository import Repository
from machine_lifecycle.model.installing import InstallContext, Step, StepContext

__all__ = ["PACKAGES", "bringing", "nothing", "requiring"]

PACKAGES = "packages"
"""Installations into one environment go one at a time: pip takes no lock on it."""


async def nothing(_: StepContext) -> None:
    """Stands where a step's ``run`` is filled in later."""


def bringing(
    context: InstallContext, repository: Repository, target: Path, step: Step, hosts: Hosts
) -> Step:
    """*step*, with what it takes to bring *repository* to *target*."""
    commits = kept_commits(context)
    env = Origins.of(context.settings).environment(context.environ, repository)

    async def run(ctx: StepContext) -> None:
        head = await bring(ctx, repository, target, env, commits=commits, hosts=hosts)
        ctx.report(f"{target.name} is at {head[:12]}")

    def present() -> bool:
        return (target / ".git").exists()

    digest = fingerprint(
        *(repository.plain_url, repository.branch, repository.commit),
        *(repository.recursive, repository.or_default),
    )
    return attrs.evolve(step, fingerprint=digest, run=run, present=present, programs=("git",))


def requiring(
    environment: Environment, file: Path, also: tuple[str, ...] = (), by: str = ""
) -> Callable[[StepContext], Awaitable[None]]:
    """What installs the requirements in *file*, if it is there, and leaves torch alone."""

    async def run(ctx: StepContext) -> None:
        listed = file.exists()  # noqa: ASYNC240 - one look at a local file
        what = [*(("-r", str(file)) if listed else ()), *also]
        if not what:
            ctx.report(f"there is no {file.name}")
            return
        await environment.install(ctx, what, shown=str(file))
        await check_unmoved(environment, ctx, by or file.parent.name, ())

    return run
