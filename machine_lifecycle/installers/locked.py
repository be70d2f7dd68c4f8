"""A boot from a lock: the same steps, at the commits and versions that were settled before.

Nothing is resolved. Packages of ComfyUI itself come with it, those of the packs in one
installation beside the fetches; a pack that the lock leaves out fails by name, with its reason.
"""

from __future__ import annotations

import platform as this_platform
from collections.abc import Sequence
from pathlib import Path

import attrs

from machine_lifecycle.config.nodes import NodeEntry
from machine_lifecycle.installers.base import fingerprint
from machine_lifecycle.installers.blocklist import Blocklist
from machine_lifecycle.installers.comfyui_settings import packs_are_off
from machine_lifecycle.installers.compiling import LockedPackage
from machine_lifecycle.installers.guarding import check_unmoved, protect, repairing
from machine_lifecycle.installers.lock import Lock
from machine_lifecycle.installers.lock_errors import LockStale, PackLeftOut
from machine_lifecycle.installers.lockfile import Kept
from machine_lifecycle.installers.locking import FOUND, Wanted, WantedPack, differences
from machine_lifecycle.installers.pack_packages import (
    TOGETHER,
    PackPackages,
    install_locked,
    lines_digest,
)
from machine_lifecycle.installers.packages import Environment
from machine_lifecycle.installers.repository import Repository
from machine_lifecycle.installers.solving import Quarantined
from machine_lifecycle.model.installing import InstallContext, Step, StepContext

__all__ = ["Locked", "wanted_packs"]


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
            own = lock.needed_by()
            lock = attrs.evolve(lock, packs=(), quarantined=(), packages=own)
        wanted = Wanted(
            comfyui=comfyui,
            packs=wanted_packs(nodes, Blocklist.of(context.settings)),
            # Whether a Python that the user named fits is seen when it is used.
            python=this_platform.python_version() if environment.ours else lock.python,
            torch=environment.backend if environment.ours else FOUND,
            exclude_newer=lock.exclude_newer,
            blocked=environment.blocked,
        )
        return cls(
            path=kept.path,
            lock=lock,
            context=context,
            environment=environment,
            comfyui=attrs.evolve(comfyui, branch="", commit=lock.comfyui.commit, or_default=False),
            differences=differences(attrs.evolve(kept, lock=lock).compared, wanted),
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
        base, packs = self.lock.needed_by(), self._packages()
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
                found.append(_of_pack(step, packs))
            elif step.subject and step.id.endswith(" script"):
                found.append(_of_script(step, steps, packs))
            else:
                found.append(step)
        if packs.all:
            found.append(_of_packs(steps, packs))
        return tuple(found)

    @property
    def _folder(self) -> Path:
        return self.context.home / ".machine-lifecycle"

    def _packages(self) -> PackPackages:
        return PackPackages(self.lock, self.environment, self._folder)

    async def _install(self, ctx: StepContext, packages: Sequence[LockedPackage]) -> None:
        protect(self.environment, self.lock.packages)
        file = self._folder / "locked-comfyui.txt"
        await install_locked(ctx, self.environment, packages, file)

    def _locked(self, step: Step, packages: Sequence[LockedPackage]) -> Step:
        async def run(ctx: StepContext) -> None:
            await self._install(ctx, packages)
            await check_unmoved(self.environment, ctx, "comfyui", packages)

        def present() -> bool:
            return self.environment.has(packages)

        return attrs.evolve(step, run=run, fingerprint=lines_digest(packages), present=present)

    def _torch(self, step: Step, packages: Sequence[LockedPackage]) -> Step:
        """Torch comes with all that it needs; it is pinned then, as in a boot without a lock."""

        async def run(ctx: StepContext) -> None:
            protect(self.environment, self.lock.packages)
            if self.environment.ours:
                self.environment.constraints.unlink(missing_ok=True)  # of another lock
                await self._install(ctx, packages)
            await self.environment.install_torch(ctx)

        return attrs.evolve(step, run=run, fingerprint=lines_digest(packages))


def _of_packs(steps: Sequence[Step], packages: PackPackages) -> Step:
    """The step that installs what all packs require."""
    (like,) = (step for step in steps if step.id == "requirements")
    return attrs.evolve(
        like,
        id=TOGETHER,
        summary="install what the node packs require",
        fingerprint=lines_digest(packages.all),
        needs=("requirements",),
        stage="nodes",
        required=any(step.required and step.subject for step in steps),
        run=packages.install,
        present=packages.present,
    )


def _of_pack(step: Step, packages: PackPackages) -> Step:
    """The step that sees whether one pack has what it requires."""
    wanted = packages.of(step.subject)

    async def run(ctx: StepContext) -> None:
        await packages.complete(ctx, step.subject)

    return attrs.evolve(
        step,
        fingerprint=lines_digest(wanted),
        needs=(*step.needs, *((TOGETHER,) if wanted else ())),
        run=run,
        repair=repairing(packages.environment, step.subject),
    )


def _of_script(step: Step, steps: Sequence[Step], packages: PackPackages) -> Step:
    """The step that runs a pack's scripts: again when its own packages are others, and not when
    those of another pack are.
    """
    before = {one.id: one.needs for one in steps if one.id.endswith(" packages")}
    needs = (more for need in step.needs for more in before.get(need, (need,)))
    late = (*before.keys() & {*step.needs}, *((TOGETHER,) if packages.all else ()))
    return attrs.evolve(
        step,
        fingerprint=fingerprint(step.fingerprint, lines_digest(packages.of(step.subject))),
        needs=tuple(dict.fromkeys(needs)),
        after=(*step.after, *late),
    )


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
        programs=(),
    )
