"""A lock made by hand, outside a boot: context, log and file are those that a boot would use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs

from machine_lifecycle.assembly.planner import MachinePlanner
from machine_lifecycle.config.settings import secret_values
from machine_lifecycle.installers.comfyui_settings import comfyui_environment
from machine_lifecycle.installers.command import CommandRunner, Journal, Redactor
from machine_lifecycle.installers.lock import Lock, changes
from machine_lifecycle.installers.lock_errors import LockStale, PackUnknown
from machine_lifecycle.installers.lockfile import Kept, kept_lock, lock_path, save_lock
from machine_lifecycle.installers.locking import differences
from machine_lifecycle.installers.model_files import ModelFiles
from machine_lifecycle.installers.proving import Difference, prove
from machine_lifecycle.installers.relocking import lock_of, wanted_of
from machine_lifecycle.model.installing import InstallContext, StepContext
from machine_lifecycle.model.paths import Paths
from machine_lifecycle.model.settings import Settings
from machine_lifecycle.system.gpus import detect

__all__ = ["Locking", "Outcome", "Proof"]

_SERVICE = "comfyui"


@attrs.frozen
class Outcome:
    """A lock, and what is new in it.

    Attributes:
        path: Its file.
        lock: What it says.
        changes: What differs from the one before, a line each.
        written: Whether the file says so now.
    """

    path: Path
    lock: Lock
    changes: tuple[str, ...]
    written: bool

    def value(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "path": str(self.path),
            "digest": self.lock.digest,
            "written": self.written,
            "changes": list(self.changes),
            "packages": len(self.lock.packages),
            "packs": [one.name for one in self.lock.installed],
            "quarantined": [
                {
                    "pack": one.pack,
                    "fault": one.fault.value,
                    "against": list(one.against),
                    "told": list(one.told),
                }
                for one in self.lock.quarantined
            ],
        }


@attrs.frozen
class Proof:
    """How what is installed compares with its lock.

    Attributes:
        path: The lock's file.
        home: Folder of the service.
        lock: What it says.
        models: How many models are listed.
        differences: What is other than that.
    """

    path: Path
    home: Path
    lock: Lock
    models: int
    differences: tuple[Difference, ...]

    def value(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "path": str(self.path),
            "digest": self.lock.digest,
            "as_locked": not self.differences,
            "packs": len(self.lock.installed),
            "packages": len(self.lock.packages),
            "models": self.models,
            "differences": [attrs.asdict(one) for one in self.differences],
        }


class Locking:
    """Makes and checks the lock of this machine's settings.

    Args:
        settings: The machine's.
        paths: The machine's.
        environ: The machine's environment.
        say: Takes a line of progress, for people.
    """

    def __init__(
        self,
        settings: Settings,
        paths: Paths,
        environ: Mapping[str, str],
        *,
        say: Callable[[str], None],
    ) -> None:
        hardware = detect(settings)
        planner = MachinePlanner(settings=settings, paths=paths, machine_id="", environ=environ)
        entry = planner.mapping().services.get(_SERVICE)
        self._context = InstallContext(
            service=_SERVICE,
            options=entry.options if entry else {},
            settings=settings,
            environ=environ,
            hardware=hardware,
            paths=paths,
        )
        run = CommandRunner(
            log=paths.logs / "install" / "lock.log",
            journal=Journal(paths.runtime / "install-lock.jsonl"),
            redact=Redactor(tuple(secret_values(settings).values())),
            report=lambda _: None,
        )
        self._ctx = StepContext(report=say, run_command=run)
        self.path: Path = lock_path(self._context)

    async def check(self) -> Kept:
        """Whether the lock is that of the list and the settings. Nobody outside is asked.

        Raises:
            LockStale: It is not.
            LockUnreadable: It is no lock.
        """
        kept = kept_lock(self._context)
        if kept is None:
            none = ("there is no lock",)
            raise LockStale(path=self.path, differences=none, context=none)
        wanted = await wanted_of(self._context, self._ctx)
        if found := differences(kept.lock, wanted):
            raise LockStale(path=kept.path, differences=found, context=found)
        return kept

    async def verify(self) -> Proof:
        """Hold what is installed against the lock, and the models against their list. Changes
        nothing, asks nobody outside.

        Raises:
            LockStale: There is no lock, or it is not that of the list and the settings.
            LockUnreadable: It is no lock.
            Problems: The list of models can't be used.
        """
        kept = await self.check()
        models = ModelFiles.of(self._context)
        environment = comfyui_environment(self._context)
        found = await prove(kept.lock, self._context, environment, self._ctx)
        other = [
            Difference(f"model {target}", problem)
            async for target, problem in models.differences(self._ctx.report)
        ]
        count = len(models.entries)
        return Proof(kept.path, self._context.home, kept.lock, count, (*found, *other))

    async def make(self, upgrade: tuple[str, ...] | None = (), *, write: bool = True) -> Outcome:
        """Make the lock, and keep it.

        Args:
            upgrade: Packs whose newest commits are looked up; ``None``: everything anew.
            write: Whether it is kept.

        Raises:
            LifecycleError: It can't be made; the one before is untouched.
        """
        kept = kept_lock(self._context)
        previous = kept.lock if kept else None
        wanted = await wanted_of(self._context, self._ctx)
        if unknown := set(upgrade or ()) - {pack.name for pack in wanted.packs}:
            known = tuple(pack.name for pack in wanted.packs)
            raise PackUnknown(packs=tuple(sorted(unknown)), known=known)
        lock = await lock_of(self._context, self._ctx, wanted, previous=previous, upgrade=upgrade)
        found = changes(previous, lock)
        if write and (lock != previous or not self.path.exists()):
            save_lock(lock, self.path)
        return Outcome(self.path, lock, found, written=write)
