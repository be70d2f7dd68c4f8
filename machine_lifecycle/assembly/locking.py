"""A lock made by hand, outside a boot: context, log and file are those that a boot would use."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs

from machine_lifecycle.assembly.planner import MachinePlanner
from machine_lifecycle.config.nodes import WrittenNode, written_nodes
from machine_lifecycle.config.settings import secret_values
from machine_lifecycle.installers.comfyui_settings import comfyui_environment
from machine_lifecycle.installers.command import CommandRunner, Journal, Redactor
from machine_lifecycle.installers.inventory import take_inventory
from machine_lifecycle.installers.lock import Lock, changes
from machine_lifecycle.installers.lock_errors import LockStale, PackUnknown, SnapshotInTheWay
from machine_lifecycle.installers.lock_verification import Difference, prove
from machine_lifecycle.installers.lockfile import Kept, kept_lock, lock_path, save_lock
from machine_lifecycle.installers.locking import differences
from machine_lifecycle.installers.locking_step import lock_of, wanted_of
from machine_lifecycle.installers.model_files import ModelFiles
from machine_lifecycle.model.installing import InstallContext, StepContext
from machine_lifecycle.model.paths import Paths
from machine_lifecycle.model.settings import Settings
from machine_lifecycle.system.files import asked_for, write_atomically
from machine_lifecycle.system.gpus import detect

__all__ = ["Locking", "Outcome", "Proof", "Taken"]

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
class Taken:
    """A snapshot of what is installed.

    Attributes:
        nodes: File of the list of packs.
        lock_path: File of the lock, beside it.
        lock: What the lock says.
        notes: What neither can say, a line each.
        written: Whether the files say so now.
    """

    nodes: Path
    lock_path: Path
    lock: Lock
    notes: tuple[str, ...]
    written: bool

    def value(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "nodes": str(self.nodes),
            "lock": str(self.lock_path),
            "digest": self.lock.digest,
            "written": self.written,
            "packs": [one.name for one in self.lock.packs],
            "packages": len(self.lock.packages),
            "notes": list(self.notes),
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
            raise LockStale(path=self.path, differences=())
        wanted = await wanted_of(self._context, self._ctx)
        if found := differences(kept.compared, wanted):
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

    async def snapshot(self, nodes: Path, *, write: bool = True, force: bool = False) -> Taken:
        """Write down what is installed, as a list of packs and the lock of it.

        Args:
            nodes: File of the new list; the lock goes beside it.
            write: Whether both are written.
            force: Whether files that are there are overwritten.

        Raises:
            NothingInstalled: There is nothing.
            SnapshotInTheWay: One of the files is there.
            FileNotWritten: One of them can't be written.
            LifecycleError: git, uv or the environment's Python is missing or fails.
        """
        context = self._context
        target = lock_path(_with_list(context, nodes))
        there = [path for path in (nodes, target) if path.exists()]
        if there and write and not force:
            raise SnapshotInTheWay(path=there[0])
        old = context.settings.comfyui_nodes
        listed = self._written(old) if old else ()
        environment = comfyui_environment(context)
        wanted = await wanted_of(_with_list(context, None), self._ctx)
        made = await take_inventory(context, environment, self._ctx, wanted, listed)
        other = await prove(made.lock, context, environment, self._ctx)
        notes = (*made.notes, *(one.line for one in other))
        if write:
            text = json.dumps({"custom_nodes": made.nodes}, indent=2, ensure_ascii=False) + "\n"
            mode = stat.S_IMODE(old.stat().st_mode) if old and old.exists() else 0o644
            with asked_for(nodes):
                write_atomically(nodes, text, mode=mode)
            save_lock(made.lock, target)
        return Taken(nodes, target, made.lock, notes, written=write)

    def _written(self, path: Path) -> tuple[WrittenNode, ...]:
        """The list that there is. One that is not there says nothing."""
        if not path.exists():
            return ()
        return written_nodes(path.read_text("utf-8"), self._context.environ, str(path))


def _with_list(context: InstallContext, nodes: Path | None) -> InstallContext:
    """The same with another list of packs."""
    return attrs.evolve(context, settings=attrs.evolve(context.settings, comfyui_nodes=nodes))
