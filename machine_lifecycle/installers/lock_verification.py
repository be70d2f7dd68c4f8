"""Holding what is installed against its lock: repositories at their commits with their files
unchanged, packages at their versions with all their files. It changes nothing.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Mapping, Sequence

import attrs
from packaging.utils import canonicalize_name

from machine_lifecycle.installers.compiling import LockedPackage
from machine_lifecycle.installers.git_program import Git
from machine_lifecycle.installers.half_installed import broken_packages
from machine_lifecycle.installers.lock import Lock, LockedRepository
from machine_lifecycle.installers.origins import Origins
from machine_lifecycle.installers.packages import Environment
from machine_lifecycle.installers.repository import Repository, public_address
from machine_lifecycle.installers.scripts import changed_by_hand
from machine_lifecycle.installers.uv_program import uv_program
from machine_lifecycle.model.installing import InstallContext, StepContext

__all__ = ["Difference", "prove"]

_SHOWN = 3
"""Changed files that are named of one repository."""


@attrs.frozen
class Difference:
    """One thing that is other than its lock says.

    Attributes:
        subject: ``ComfyUI``, ``pack NAME`` or ``package NAME``.
        problem: What is wrong with it, for people.
    """

    subject: str
    problem: str

    @property
    def line(self) -> str:
        """In one line."""
        return f"{self.subject} {self.problem}"


async def prove(
    lock: Lock, context: InstallContext, environment: Environment, ctx: StepContext
) -> tuple[Difference, ...]:
    """Everything that is other than the lock says; empty if nothing is.

    What nobody locked is not looked at: packs that somebody put beside, packages that a pack's own
    script brought.

    Args:
        lock: What should be there.
        context: Of the installation.
        environment: Where the packages are.
        ctx: Runs git, uv and the environment's Python.

    Raises:
        LifecycleError: One of these programs is missing or fails.
    """
    quiet = attrs.evolve(ctx, report=lambda _: None)
    found: list[Difference] = []
    for one in (lock.comfyui, *lock.installed):
        ctx.report(f"looking at {one.name or 'ComfyUI'}")
        found += [difference async for difference in _repository(one, context, quiet)]
    ctx.report(f"looking at {len(lock.packages)} packages")
    if not environment.python.exists():
        return (*found, Difference("Python", f"is not there: {environment.python}"))
    return (*found, *await _packages(lock.packages, environment, quiet))


async def _repository(
    locked: LockedRepository, context: InstallContext, ctx: StepContext
) -> AsyncIterator[Difference]:
    subject = f"pack {locked.name}" if locked.name else "ComfyUI"
    folder = context.home / "custom_nodes" / locked.name if locked.name else context.home
    if not (folder / ".git").exists():
        how = "is there, but no clone of ours" if folder.exists() else "is not there"
        yield Difference(subject, f"{how}: {folder}")
        return
    repository = Repository(url=locked.url, commit=locked.commit)
    env = Origins.of(context.settings).environment(context.environ, repository)
    git = Git(ctx, repository, folder, env)
    head = await git.head(folder)
    if head != locked.commit:
        yield Difference(subject, f"is at {head[:12]}, not at {locked.commit[:12]}")
    # Submodules are told of here too, at another commit and with other files.
    if changed := await changed_by_hand(ctx.run_command, folder, env):
        more = f" and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else ""
        yield Difference(subject, f"has changed files: {', '.join(changed[:_SHOWN])}{more}")


async def _packages(
    packages: Sequence[LockedPackage], environment: Environment, ctx: StepContext
) -> tuple[Difference, ...]:
    argv = [uv_program(), "pip", "freeze", "--quiet", "--python", str(environment.python)]
    told = await ctx.run_command(argv, env=environment.env)
    there = dict(_frozen(told.output.splitlines()))
    broken = {
        canonicalize_name(name)
        for name in await broken_packages(ctx, environment.python, environment.env)
    }
    return tuple(_compared(packages, there, broken))


def _frozen(lines: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Names with versions, or with the address that a package came from."""
    for line in lines:
        name, mark, rest = line.partition("==")
        if not mark:
            name, _, rest = line.partition(" @ ")
            rest = public_address(rest.strip())
        yield canonicalize_name(name.strip()), rest.strip()


def _compared(
    packages: Iterable[LockedPackage], there: Mapping[str, str], broken: Collection[str]
) -> Iterator[Difference]:
    for package in packages:
        name = canonicalize_name(package.name)
        subject, wanted, found = f"package {package.name}", package.version, there.get(name)
        if found is None:
            yield Difference(subject, f"is not there, in version {wanted or package.url}")
        elif wanted and found != wanted:
            yield Difference(subject, f"is {found}, not {wanted}")
        elif not wanted and _commit(package.url) != _commit(found):
            yield Difference(subject, f"is of {found}, not of {package.url}")
        elif name in broken:
            yield Difference(subject, "lacks some of its files")


def _commit(url: str) -> str:
    """What tells two addresses of one package apart: the commit, else all of it."""
    commit = url.rpartition("@")[2].partition("#")[0]
    return commit if re.fullmatch(r"[0-9a-f]{40,64}", commit) else url
