"""A boot from a lock: the same steps, at the commits and versions that were settled before.

Nothing is resolved. Packages of ComfyUI itself come with it, those of the packs in one
installation beside the fetches; a pack that the lock leaves out fails by name, with its reason.
"""

from __future__ import annotations

import platform as this_platform
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import attrs

from machine_lifecycle.config.nodes import NodeEntry
from machine_lifecycle.installers.base import fingerprint, write_atomically
from machine_lifecycle.installers.blocking import Blocklist
from machine_lifecycle.installers.comfyui_settings import packs_are_off
from machine_lifecycle.installers.compiling import LockedPackage
from machine_lifecycle.installers.guarding import check_unmoved, protect
from machine_lifecycle.installers.lock import Lock
from machine_lifecycle.installers.lock_errors import LockStale, PackLeftOut
from machine_lifecycle.installers.lockfile import Kept
from machine_lifecycle.installers.locking import FOUND, Wanted, WantedPack, differences
from machine_lifecycle.installers.packages import Environment
from machine_lifecycle.installers.repository import Repository
from machine_lifecycle.installers.solving import Quarantined
from machine_lifecycle.model.installing import InstallContext, Step, StepContext

__all__ = ["Locked", "wanted_packs"]

_BASE = "pack:comfyui"
_TOGETHER = "node packages"
"""The step that installs what all packs require."""


def wanted_packs(
    nodes: Sequence[NodeEntry], blocklist: Blocklist | None = None
) -> tuple[WantedPack, ...]:
    """The packs of a list, by priority: what is required may push out what is not."""
    packs = (
        WantedPack(
            name=node.name,
            repository=Repository(
                url=node.url, branch=node.branch, commit=node.commit, recursive=node.recursive
            ),
            requirements=node.requirements,
            required=node.required,
            blocked=blocklist.reason(node.name, node.url) if blocklist else None,
        )
        for node in nodes
    )
    return tuple(sorted(packs, key=lambda pack: not pack.required))


@attrs.frozen(kw_only=True)
class Locked:
    """A lock, and what it is laid over.

    Attributes:
        path: Its file.
        lock: The lock.
        context: Of the installation.
        environment: Where the packages go.
        comfyui: ComfyUI at its commit.
        differences: In what it is not that of the list and the settings, a line each.
    """

    path: Path
    lock: Lock
    context: InstallContext
    environment: Environment
    comfyui: Repository
    differences: tuple[str, ...]

    @classmethod
    def of(
        cls,
        context: InstallContext,
        environment: Environment,
        comfyui: Repository,
        nodes: Sequence[NodeEntry],
        kept: Kept,
    ) -> Locked:
        """The lock that is kept for an installation, whether it fits or not.

        Args:
            context: Of the installation.
            environment: Where the packages go.
            comfyui: As the settings name it.
            nodes: The list of packs; none where they are switched off.
            kept: The lock.
        """
        lock = kept.lock
        if packs_are_off(context):
            first, _ = _parted(lock)
            lock = attrs.evolve(lock, packs=(), quarantined=(), packages=first)
        wanted = Wanted(
            comfyui=comfyui,
            packs=wanted_packs(nodes),
            # That of a Python which was named is seen when it is used.
            python=this_platform.python_version() if environment.ours else lock.python,
            torch=environment.backend if environment.ours else FOUND,
            exclude_newer=lock.exclude_newer,
        )
        return cls(
            path=kept.path,
            lock=lock,
            context=context,
            environment=environment,
            comfyui=attrs.evolve(comfyui, branch="", commit=lock.comfyui.commit, or_default=False),
            differences=differences(lock, wanted),
        )

    def check(self) -> None:
        """Whether it is the lock of the list and the settings.

        Raises:
            LockStale: It is not.
        """
        if found := self.differences:
            raise LockStale(path=self.path, differences=found, context=found)

    def nodes(self, nodes: Sequence[NodeEntry]) -> tuple[NodeEntry, ...]:
        """The packs at their commits; those that are left out stay as they are."""
        commits = {pack.name: pack.commit for pack in self.lock.packs if pack.commit}
        return tuple(
            attrs.evolve(node, branch="", commit=commits[node.name])
            if node.name in commits
            else node
            for node in nodes
        )

    def over(self, steps: Sequence[Step]) -> tuple[Step, ...]:
        """The steps, with packages from the lock and without the packs that it leaves out."""
        out = {one.pack: one for one in self.lock.quarantined}
        base, packs = _parted(self.lock)
        found: list[Step] = []
        told: set[str] = set()
        for step in steps:
            if step.subject in out:
                if step.subject not in told:
                    told.add(step.subject)
                    found.append(_left_out(step, out[step.subject]))
            elif step.id == "torch":
                found.append(self._torch(step, base))
            elif step.id == "requirements":
                found.append(self._locked(step, base))
            elif step.subject and step.id.endswith(" packages"):
                continue
            elif step.subject and step.id.endswith(" script"):
                kept = (need for need in step.needs if not need.endswith(" packages"))
                clone = f"node {step.subject} clone"
                found.append(attrs.evolve(step, needs=(*kept, clone, *self._together(packs))))
            else:
                found.append(step)
        if packs:
            found.append(self._of_packs(steps, packs))
        return tuple(found)

    @staticmethod
    def _together(packs: Sequence[LockedPackage]) -> tuple[str, ...]:
        return (_TOGETHER,) if packs else ()

    def _install(
        self, packages: Sequence[LockedPackage], name: str
    ) -> Callable[[StepContext], Awaitable[None]]:
        file = self.context.home / ".machine-lifecycle" / f"{name}.txt"

        async def run(ctx: StepContext) -> None:
            file.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(file, "".join(f"{one.line}\n" for one in packages))
            protect(self.environment, self.lock.packages)
            words = ("--no-deps", "--compile-bytecode", "-r", str(file))
            await self.environment.install(ctx, words, shown=str(file))

        return run

    def _locked(self, step: Step, packages: Sequence[LockedPackage]) -> Step:
        install = self._install(packages, "locked-comfyui")

        async def run(ctx: StepContext) -> None:
            await install(ctx)
            await check_unmoved(self.environment, ctx, "comfyui", packages)

        def present() -> bool:
            return self.environment.has(packages)

        return attrs.evolve(step, run=run, fingerprint=_digest(packages), present=present)

    def _torch(self, step: Step, packages: Sequence[LockedPackage]) -> Step:
        """Torch comes with all that it needs; it is pinned then, as in a boot without a lock."""
        install = self._install(packages, "locked-comfyui")

        async def run(ctx: StepContext) -> None:
            protect(self.environment, self.lock.packages)
            if self.environment.ours:
                self.environment.constraints.unlink(missing_ok=True)  # of another lock
                await install(ctx)
            await self.environment.install_torch(ctx)

        return attrs.evolve(step, run=run, fingerprint=_digest(packages))

    def _of_packs(self, steps: Sequence[Step], packages: Sequence[LockedPackage]) -> Step:
        install = self._install(packages, "locked-node-packs")

        async def run(ctx: StepContext) -> None:
            await install(ctx)
            await check_unmoved(self.environment, ctx, _TOGETHER)

        def present() -> bool:
            return self.environment.has(packages)

        (like,) = (step for step in steps if step.id == "requirements")
        return attrs.evolve(
            like,
            id=_TOGETHER,
            summary="install what the node packs require",
            fingerprint=_digest(packages),
            needs=("requirements",),
            stage="nodes",
            required=any(step.required and step.subject for step in steps),
            run=run,
            present=present,
        )


def _parted(lock: Lock) -> tuple[tuple[LockedPackage, ...], tuple[LockedPackage, ...]]:
    """The packages that ComfyUI itself comes to, and the rest."""
    base: set[str] = set()
    more = {_BASE}
    while more:
        base |= more
        more = {one.name for one in lock.packages if not base.isdisjoint(one.wanted_by)} - base
    # What nobody is said to want is wanted by a line that the solver was given as such.
    first = tuple(one for one in lock.packages if one.name in base or not one.wanted_by)
    return first, tuple(one for one in lock.packages if one not in first)


def _digest(packages: Sequence[LockedPackage]) -> str:
    return fingerprint(*(one.line for one in packages))


def _left_out(step: Step, why: Quarantined) -> Step:
    """A step that says why there is no pack."""

    async def run(_: StepContext) -> None:
        raise PackLeftOut(
            pack=why.pack, fault=why.fault.value, against=why.against, context=why.told
        )

    return attrs.evolve(
        step,
        id=f"node {why.pack} lock",
        summary=f"node pack {why.pack}",
        fingerprint=fingerprint(why.pack, why.fault.value),
        needs=(),
        run=run,
        retries=0,
    )
