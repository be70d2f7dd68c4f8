"""What locked packs require: installed in one go, pack by pack where that can't be had.

A lock is solved, not built: a package whose own code does not compile here, or whose file is gone,
shows itself only now. It costs the packs that need it, by name, and no other.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from pathlib import Path

import attrs

from machine_lifecycle.installers.base import fingerprint
from machine_lifecycle.installers.compiling import LockedPackage
from machine_lifecycle.installers.guarding import check_unmoved, protect
from machine_lifecycle.installers.lock import Lock
from machine_lifecycle.installers.package_errors import PackagesFailed
from machine_lifecycle.installers.packages import Environment
from machine_lifecycle.model.installing import StepContext
from machine_lifecycle.system.files import write_atomically

__all__ = ["TOGETHER", "PackPackages", "install_locked", "lines_digest"]

TOGETHER = "node packages"
"""The step that installs what all packs require."""


async def install_locked(
    ctx: StepContext, environment: Environment, packages: Sequence[LockedPackage], file: Path
) -> None:
    """Install packages of a lock, and only them, with hashes checked and bytecode compiled.

    Args:
        ctx: Runs uv.
        environment: Where to.
        packages: Which.
        file: The requirements file that says so.

    Raises:
        PackagesFailed: They can't be installed.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, "".join(f"{one.line}\n" for one in packages))
    words = ("--no-deps", "--compile-bytecode", "-r", str(file))
    await environment.install(ctx, words, shown=str(file))


def lines_digest(packages: Sequence[LockedPackage]) -> str:
    """Changes when other packages, or other versions, are wanted."""
    return fingerprint(*(one.line for one in packages))


@attrs.frozen
class PackPackages:
    """Installs them.

    Attributes:
        lock: Of what.
        environment: Where to.
        folder: For the files that say what.
    """

    lock: Lock
    environment: Environment
    folder: Path
    _failed: dict[str, PackagesFailed] = attrs.field(init=False, factory=dict)
    """By pack, why its packages could not be had a moment ago."""

    @property
    def all(self) -> tuple[LockedPackage, ...]:
        """Those of all packs, beside ComfyUI's own."""
        own = {one.name for one in self.lock.needed_by()}
        return tuple(one for one in self.lock.packages if one.name not in own)

    def of(self, pack: str) -> tuple[LockedPackage, ...]:
        """Those that one pack needs, with all that they need, beside ComfyUI's own."""
        needed = {one.name for one in self.lock.needed_by(pack)}
        return tuple(one for one in self.all if one.name in needed)

    def present(self) -> bool:
        """Whether all that could be had is there."""
        out = self._left_out()
        return self.environment.has([one for one in self.all if one.name not in out])

    async def install(self, ctx: StepContext) -> None:
        """Install those of all packs; where that fails for one of them, those of the others.

        Raises:
            PackagesFailed: They can't be had for now: another try may end better.
        """
        protect(self.environment, self.lock.packages)  # until now, that of the lock before holds
        try:
            await install_locked(ctx, self.environment, self.all, self._file(TOGETHER))
        except PackagesFailed as error:
            if error.recoverable:
                raise
            ctx.report("not all packages can be had: they are installed pack by pack")
            out = await self._pack_by_pack(ctx)
        else:
            out = frozenset()
        self._leave_out(out)
        await check_unmoved(self.environment, ctx, TOGETHER)

    async def complete(self, ctx: StepContext, pack: str) -> None:
        """See that one pack has what it needs; what could not be had for it is tried again.

        Raises:
            PackagesFailed: It still can't be had.
        """
        if pack in self._failed:
            raise self._failed[pack]
        wanted, out = self.of(pack), self._left_out()
        if out.isdisjoint(one.name for one in wanted):
            return
        await install_locked(ctx, self.environment, wanted, self._file(f"{pack} packages"))
        self._leave_out(out - {one.name for one in wanted})
        await check_unmoved(self.environment, ctx, pack)

    async def _pack_by_pack(self, ctx: StepContext) -> frozenset[str]:
        """Names of the packages that could not be had."""
        there: set[str] = set()
        out: set[str] = set()
        for pack in self.lock.installed:
            wanted = self.of(pack.name)
            if not wanted:
                continue
            names = {one.name for one in wanted}
            try:
                file = self._file(f"{pack.name} packages")
                await install_locked(ctx, self.environment, wanted, file)
            except PackagesFailed as error:
                if error.recoverable:
                    raise
                self._failed[pack.name] = error
                out |= names
            else:
                there |= names
        return frozenset(out - there)

    def _file(self, name: str) -> Path:
        return self.folder / f"locked-{name.replace(' ', '-')}.txt"

    @property
    def _out(self) -> Path:
        return self.folder / "packages-left-out.json"

    def _left_out(self) -> frozenset[str]:
        try:
            return frozenset(json.loads(self._out.read_text("utf-8")))
        except (OSError, ValueError):
            return frozenset()

    def _leave_out(self, names: Collection[str]) -> None:
        """Write down what is not there; the rest is protected from now on."""
        if names:
            write_atomically(self._out, json.dumps(sorted(names)))
        else:
            self._out.unlink(missing_ok=True)
        protect(self.environment, [one for one in self.lock.packages if one.name not in names])
