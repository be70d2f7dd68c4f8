"""Errors of putting a machine together."""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from typing import ClassVar

import attrs

from machine_lifecycle.errors import ConfigurationError, LifecycleError, Remedy

__all__ = [
    "ClockWrong",
    "GpuUnusable",
    "HookUnusable",
    "MachineAlreadyRunning",
    "MachineStoppedEarly",
    "MappingUnreadable",
    "NoQueue",
    "ReloadFailed",
    "ReloadRefused",
    "SpaceShort",
]


@attrs.define(kw_only=True, slots=False, eq=False)
class NoQueue(ConfigurationError):
    """The machine runs real services, but no Redis is set to bring jobs to them."""

    code: ClassVar[str] = "no-queue"

    workers: str

    @property
    def summary(self) -> str:
        """What is missing for what."""
        return f"WORKERS={self.workers} needs a queue, and HUB_REDIS_URL is not set"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """Join a fleet, or be an island on purpose."""
        return (
            Remedy("Join your fleet", "export HUB_REDIS_URL=redis://:PASSWORD@HOST:6379"),
            Remedy("Or run an island with a queue of its own", "export REDIS=embedded"),
        )


@attrs.define(kw_only=True, slots=False, eq=False)
class MachineAlreadyRunning(ConfigurationError):
    """Another orchestrator runs this machine already.

    Attributes:
        workspace: The folder that both want.
        pid: The other's process; 0: not known.
        host: The other's host or container; empty: this one.
        runtime: The other's runtime folder, where it is not ours.
    """

    code: ClassVar[str] = "machine-already-running"

    workspace: Path
    pid: int = 0
    host: str = ""
    runtime: Path | None = None

    @property
    def summary(self) -> str:
        """Which workspace, which process."""
        who = f" by process {self.pid}" if self.pid else ""
        where = f" on {self.host}" if self.host else ""
        return f"the machine in {self.workspace} is run already{who}{where}"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """Look at it, stop it, or be another machine."""
        there = f"MACHINE_RUNTIME_DIR={self.runtime} " if self.runtime else ""
        at = f" (on {self.host})" if self.host else ""
        return (
            Remedy(f"Look at it{at}", f"{there}machine-lifecycle status"),
            Remedy(f"Stop it{at}", f"{there}machine-lifecycle stop"),
            Remedy("Or be another machine", "export WORKSPACE_PATH=/another/folder"),
        )


@attrs.define(kw_only=True, slots=False, eq=False)
class MachineStoppedEarly(LifecycleError):
    """The machine was stopped before it was ready."""

    code: ClassVar[str] = "machine-stopped-early"
    recoverable: ClassVar[bool] = False
    exit_code: ClassVar[int] = 0

    reason: str = ""

    @property
    def summary(self) -> str:
        """Why it was stopped."""
        return f"stopped before it was ready{f': {self.reason}' if self.reason else ''}"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """Boot it again."""
        return (Remedy("Boot it again", "machine-lifecycle boot"),)


@attrs.define(kw_only=True, slots=False, eq=False)
class ReloadRefused(LifecycleError):
    """Other settings can't be taken over while the machine runs. It goes on as it was.

    Attributes:
        reason: Why not.
    """

    code: ClassVar[str] = "reload-refused"

    reason: str

    @property
    def summary(self) -> str:
        """Why."""
        return f"the settings can't be reloaded: {self.reason}"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """Wait, or begin anew."""
        return (
            Remedy("See how it does", "machine-lifecycle status"),
            Remedy("Or stop it, and boot it with the new settings", "machine-lifecycle stop"),
        )


@attrs.define(kw_only=True, slots=False, eq=False)
class ReloadFailed(LifecycleError):
    """Something that other settings want could not be started. What ran before runs again, by the
    settings before.

    Attributes:
        reason: What went wrong.
        fixes: What helps against that.
    """

    code: ClassVar[str] = "reload-failed"

    reason: str
    fixes: tuple[Remedy, ...] = ()

    @property
    def summary(self) -> str:
        """What went wrong, and how things are now."""
        return f"the settings were not reloaded, and those before hold again: {self.reason}"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """Those of what went wrong, then the same again."""
        return (*self.fixes, Remedy("Then reload again", "machine-lifecycle reload"))


@attrs.define(kw_only=True, slots=False, eq=False)
class WarmUpUnusable(ConfigurationError):
    """The graph that a service is to run before it takes jobs can't be used.

    Attributes:
        service: Which service.
        file: The graph.
        problems: Everything that is wrong with it.
    """

    code: ClassVar[str] = "warm-up-unusable"

    service: str
    file: Path
    problems: tuple[str, ...]

    @property
    def summary(self) -> str:
        """Which file, and all that is wrong."""
        return f"{self.service} can't be warmed up with {self.file}: {'; '.join(self.problems)}"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """Look at it; export it anew; or go without."""
        return (
            Remedy("Look at the file", f"head -c 300 {shlex.quote(str(self.file))}"),
            Remedy("Export the workflow in API form, as `machine-lifecycle submit` takes it"),
            Remedy("Or go without it", "unset COMFYUI_WARMUP"),
        )


@attrs.define(kw_only=True, slots=False, eq=False)
class MappingUnreadable(ConfigurationError):
    """The service mapping that the settings name can't be read."""

    code: ClassVar[str] = "mapping-unreadable"

    path: Path
    reason: str

    @property
    def summary(self) -> str:
        """Which file, and why."""
        return f"can't read the service mapping {self.path}: {self.reason}"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """Look, or use the one in the package."""
        return (
            Remedy("Look at the file", f"ls -l {self.path}"),
            Remedy("Or use the mapping in the package", "unset SERVICE_MAPPING_PATH"),
        )


_GIB = 1 << 30


@attrs.define(kw_only=True, slots=False, eq=False)
class SpaceShort(ConfigurationError):
    """The disk has less room than a boot will take.

    Attributes:
        folder: On which disk.
        free: Bytes that are free.
        needed: Bytes that it will take.
        why: What takes them.
    """

    code: ClassVar[str] = "space-short"

    folder: Path
    free: int
    needed: int
    why: str

    @property
    def summary(self) -> str:
        """How much there is, and how much it takes."""
        return (
            f"{self.folder} has {self.free / _GIB:.1f} GiB free, and {self.why} takes "
            f"{self.needed / _GIB:.0f} GiB"
        )

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """Find what is large; or go elsewhere."""
        return (
            Remedy("See what is large there", f"du -xhd2 {self.folder} | sort -h | tail"),
            Remedy("Or take another disk", "export WORKSPACE_PATH=/another/folder"),
        )


@attrs.define(kw_only=True, slots=False, eq=False)
class ClockWrong(LifecycleError):
    """The machine's clock is off: certificates are refused, leases and times of jobs are wrong.

    Attributes:
        now: What it says, in seconds since 1970.
        reference: Against whose clock.
        skew: By how many seconds it is off, where that is known.
    """

    code: ClassVar[str] = "clock-wrong"

    now: float
    reference: str
    skew: float = 0.0

    @property
    def summary(self) -> str:
        """What it says, and whom it disagrees with."""
        said = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(self.now))
        by = f" by {self.skew:.1f} s" if self.skew else ""
        return f"the clock says {said}, which is off{by} against {self.reference}"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """Have it set."""
        return (
            Remedy("Have it set from the network", "timedatectl set-ntp true"),
            Remedy("In a container, set the host's: they share one"),
        )


@attrs.define(kw_only=True, slots=False, eq=False)
class GpuUnusable(LifecycleError):
    """A GPU can't be used any more; what ran on it is out of service until somebody restarts it.

    Attributes:
        process: The service that is out.
        index: Number of the GPU.
        name: Its model.
        uuid: Its UUID.
        sign: What was said of the fault.
        source: Which error that is.
        lasting: Whether the GPU must be reset; else it is its second fault in a short time.
    """

    code: ClassVar[str] = "gpu-unusable"

    process: str
    index: int
    name: str
    uuid: str
    sign: str
    source: str
    lasting: bool

    @property
    def summary(self) -> str:
        """Which GPU, what it said, and what to do: it stands alone in the machine's condition."""
        cause = "" if self.lasting else ", again after a restart"
        first, last = self.remedies
        return (
            f"GPU {self.index} ({self.name}, {self.uuid}) can't be used: {self.sign} "
            f"[{self.source}]{cause}; {first.text[0].lower()}{first.text[1:]} (`{first.command}`), "
            f"then `{last.command}`"
        )

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """Reset the GPU or look at what happened; then take it back into service."""
        first = (
            Remedy("Reset the GPU or its host", f"nvidia-smi --gpu-reset -i {self.uuid}")
            if self.lasting
            else Remedy("See what it did", f"machine-lifecycle logs {self.process}")
        )
        back = f"machine-lifecycle restart {self.process}"
        return (first, Remedy("Then take it back into service", back))


@attrs.define(kw_only=True, slots=False, eq=False)
class HookUnusable(ConfigurationError):
    """What a setting names as a hook is none.

    Attributes:
        variable: The setting.
        name: What it names.
        origin: The package it is from, or empty.
        problem: Why it can't be used.
    """

    code: ClassVar[str] = "hook-unusable"

    variable: str
    name: str
    origin: str
    problem: str

    @property
    def summary(self) -> str:
        """Which setting, what it names, and what is wrong with that."""
        origin = f" (of {self.origin})" if self.origin else ""
        return f"{self.variable}: `{self.name}`{origin} {self.problem}"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """Go without it."""
        return (Remedy("Take it out", f"export {self.variable}="),)
