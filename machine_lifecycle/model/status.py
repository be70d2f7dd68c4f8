"""How the machine is, as every surface tells it: pages, control socket, Redis, events."""

from __future__ import annotations

from collections.abc import Mapping
from textwrap import shorten
from typing import Any

import attrs

from machine_lifecycle.model.bundle import WorkerBundle
from machine_lifecycle.model.hardware import Hardware
from machine_lifecycle.model.packs import Loaded, PackTimes
from machine_lifecycle.model.ports import Check
from machine_lifecycle.model.processes import ProcessStatus

__all__ = [
    "Condition",
    "ConditionKind",
    "StateTiming",
    "StatusReport",
    "WorkerStatus",
    "causes_in_words",
]

_LONGEST_CAUSE = 160
"""Characters of one cause: the whole of it is told where the thing itself is shown."""


class ConditionKind:
    """Names of conditions: facts that stand beside the state, as in Kubernetes."""

    DEGRADED = "degraded"
    DRAINING = "draining"
    RESUMING = "resuming"
    DISK_LOW = "disk_low"
    DISK_HUNG = "disk_hung"
    CRASH_LOOP = "crash_loop"


@attrs.frozen(kw_only=True)
class Condition:
    """One named fact beside the state, while it holds.

    Attributes:
        kind: One of ``ConditionKind``.
        reason: Why it holds, in words.
        since: Wall-clock seconds.
    """

    kind: str
    reason: str
    since: float


def causes_in_words(causes: Mapping[str, str]) -> str:
    """Things and the cause of each as one line for a ``reason``: a cause that several share is told
    once, and a long one is cut.
    """
    alike: dict[str, list[str]] = {}
    for name, cause in causes.items():
        alike.setdefault(cause, []).append(name)
    return "; ".join(
        f"{', '.join(names)} ({shorten(cause, _LONGEST_CAUSE, placeholder=' …')})"
        for cause, names in alike.items()
    )


@attrs.frozen(kw_only=True)
class WorkerStatus:
    """One worker, as it says itself over its link.

    Attributes:
        status: ``starting``, ``standby``, ``idle``, ``busy``, ``paused``, ``draining`` or ``gone``.
        connected: Whether it is registered in Redis and its service answered.
        last_activity: Wall-clock seconds of its last word.
    """

    id: str
    process: str
    type: str
    status: str
    connected: bool = False
    current_job_id: str = ""
    jobs_completed: int = 0
    jobs_failed: int = 0
    last_activity: float = 0.0
    capabilities: tuple[str, ...] = ()
    gpu: int | None = None
    trouble: str = ""


@attrs.frozen(kw_only=True)
class StateTiming:
    """One visit of a state; those of Ready and Processing that are over are told as one each.

    Attributes:
        expected: What is usual, low and high, in seconds; for the reader only.
        seconds: ``None`` while it lasts.
    """

    state: str
    attempt: int
    started: float
    seconds: float | None
    expected: tuple[float, float] | None = None
    steps: tuple[tuple[str, float], ...] = ()


@attrs.frozen(kw_only=True)
class StatusReport:
    """Everything that is shown of a machine. Holds no secret.

    Attributes:
        phase: The coarse word of the wire: ``starting``, ``ready`` or ``shutdown``.
        since: Wall-clock seconds when the state was entered.
        uptime: Seconds since the machine was opened.
        allowed: Triggers that the state answers.
        waiting: What the state waits for now, each with its age.
        failure: The error that brought the machine down, in its wire form.
        story: The latest facts and changes, newest last.
        bundle: What workers can load beside what is installed; ``None``: nothing.
        loaded: The node packs of each instance whose worker has told of them.
        pack_times: What each node pack costs a boot, once the machine was ready.
        redis: Whether the queue does what it is asked; where it is, without its password; and why
            it does not.
        disk_free: Bytes that are free on the workspace's disk; 0 before the first look.
    """

    machine_id: str
    version: str
    state: str
    phase: str
    since: float
    uptime: float
    attempt: int
    pid: int
    conditions: tuple[Condition, ...] = ()
    allowed: tuple[str, ...] = ()
    waiting: tuple[str, ...] = ()
    hardware: Hardware = Hardware()
    capabilities: tuple[str, ...] = ()
    processes: tuple[ProcessStatus, ...] = ()
    workers: tuple[WorkerStatus, ...] = ()
    loaded: tuple[Loaded, ...] = ()
    pack_times: tuple[PackTimes, ...] = ()
    bundle: WorkerBundle | None = None
    checks: tuple[Check, ...] = ()
    timings: tuple[StateTiming, ...] = ()
    failure: dict[str, Any] | None = None
    later_failures: tuple[dict[str, Any], ...] = ()
    story: tuple[str, ...] = ()
    redis_connected: bool = False
    redis_where: str = ""
    redis_trouble: str = ""
    health_url: str = ""
    jobs_running: int = 0
    jobs_completed: int = 0
    jobs_failed: int = 0
    disk_free: int = 0

    def condition(self, kind: str) -> Condition | None:
        """The condition of this kind, if it holds."""
        return next((found for found in self.conditions if found.kind == kind), None)
