"""What is to run, what it needs, and how it does: the words planner and supervisor share."""

from __future__ import annotations

import functools
from enum import Enum
from pathlib import Path

import attrs

from machine_lifecycle.model.limits import Limits
from machine_lifecycle.model.text import frozen_map

__all__ = [
    "Command",
    "CommandReady",
    "EnvFile",
    "ExitCause",
    "HttpReady",
    "LinkReady",
    "LogReady",
    "NotifyReady",
    "ProcessSpec",
    "ProcessState",
    "ProcessStatus",
    "Readiness",
    "RestartPolicy",
    "RestartWhen",
    "Role",
    "StopPolicy",
    "TcpReady",
    "WebSocketReady",
]


@attrs.frozen
class EnvFile:
    """A file of ``NAME=value`` lines that a process gets its variables from.

    Attributes:
        path: Relative ones begin at the command's working directory.
        required: Whether it has to be there.
    """

    path: Path
    required: bool = True


@attrs.frozen(kw_only=True)
class Command:
    """A program to run.

    Attributes:
        argv: Program and arguments. Never holds a secret: every user of the host can read it.
        cwd: Working directory; ``None`` for the orchestrator's own.
        env: Variables added to the inherited environment. Never holds a secret.
        secrets: Names of variables whose values are added when the process is spawned. Plans,
            manifests and pages hold the names only.
        limits: What it may take of its host.
        env_files: Files with further variables, read each time that it is started, in order, so
            that the last one counts; what ``env`` and ``secrets`` say counts more. Plans and pages
            hold the paths only.
    """

    argv: tuple[str, ...]
    cwd: Path | None = None
    env: dict[str, str] = attrs.field(factory=dict, converter=frozen_map)
    secrets: tuple[str, ...] = ()
    limits: Limits = Limits()
    env_files: tuple[EnvFile, ...] = ()


@attrs.frozen(kw_only=True)
class HttpReady:
    """Ready when ``GET path`` on the process's port answers 200, and, where the page tells its
    own ``argv`` (ComfyUI's ``/system_stats``), when that says nothing else than the process was
    started with: a stranger on the same port is not us.
    """

    path: str = "/"


@attrs.frozen(kw_only=True)
class WebSocketReady:
    """Ready when a WebSocket handshake on ``path`` is accepted."""

    path: str = "/ws"


@attrs.frozen(kw_only=True)
class TcpReady:
    """Ready when the process's port takes a connection."""


@attrs.frozen(kw_only=True)
class LogReady:
    """Ready when a line of the process's log matches a regular expression."""

    pattern: str


@attrs.frozen(kw_only=True)
class CommandReady:
    """Ready when a command ends with status 0."""

    argv: tuple[str, ...]


@attrs.frozen(kw_only=True)
class NotifyReady:
    """Ready when the process says ``READY=1`` in the sd_notify protocol."""


@attrs.frozen(kw_only=True)
class LinkReady:
    """Ready when the process says ``connected`` over its link to the orchestrator (workers)."""


Readiness = (
    HttpReady | WebSocketReady | TcpReady | LogReady | CommandReady | NotifyReady | LinkReady
)


class RestartWhen(Enum):
    """After which ends a process is started again."""

    NEVER = "never"
    ON_FAILURE = "on-failure"
    ALWAYS = "always"


@attrs.frozen(kw_only=True)
class RestartPolicy:
    """When and how fast a process that ended is started again. Times are seconds.

    Attributes:
        when: After which ends.
        backoff: Wait before the first restart; doubled at each further one.
        backoff_max: Longest wait.
        jitter: Share of the wait that is drawn at random, 0 to 1.
        min_uptime: After so long in readiness the count of restarts starts anew.
        budget: Restarts within ``window`` before the process is given up.
        window: Seconds over which the budget counts.
        alike: First starts that may end in the same way before the process was ever ready; one
            that fails by itself (a failed import, a wrong argument) would fail for ever. 0: no
            such limit.
    """

    when: RestartWhen = RestartWhen.ALWAYS
    backoff: float = 0.5
    backoff_max: float = 30.0
    jitter: float = 0.1
    min_uptime: float = 10.0
    budget: int = 10
    window: float = 600.0
    alike: int = 2


@attrs.frozen(kw_only=True)
class StopPolicy:
    """How a process is asked to end: a signal to its group, a wait, then its whole tree is killed.

    Attributes:
        signal: Name of the signal.
        grace: Seconds until the tree is killed.
    """

    signal: str = "SIGTERM"
    grace: float = 5.0


class Role(Enum):
    """What a process is to the machine."""

    SERVICE = "service"
    WORKER = "worker"
    SUPPORT = "support"


@attrs.frozen(kw_only=True)
class ProcessSpec:
    """One process that the machine keeps running.

    Attributes:
        name: Unique on the machine: ``comfyui-gpu0``, ``redis-worker-comfyui-0``.
        role: What it is to the machine.
        command: What to run.
        host: Address its probes go to.
        port: Port it listens on, or ``None``.
        readiness: All must hold, in order; none means that it is ready once it runs.
        start_deadline: Seconds from spawn to readiness, after which the start has failed.
        needs: Names of processes that must be ready before this one is.
        standby: Spawned at once, before what it needs is ready, and told to go when that is.
        restart: When it is started again.
        stop: How it is asked to end.
        log: File that takes its output; ``None`` for ``{logs}/{name}.log``.
        essential: Whether the machine fails when this one is given up.
        instance: Id of the service instance it is, or works for.
        gpu: Index of the GPU it is bound to, or ``None``.
        directories: Folders that are made before it is spawned.
        watchdog: Seconds within which it must say ``WATCHDOG=1`` in the sd_notify protocol, over
            and over once it is ready, or it is taken for hung and started anew; 0: it need not.
        max_memory_mib: MiB that the process and all that it started may hold together, before it is
            started anew; 0: any amount.
        restart_with_needs: Whether it is started anew when a process that it needs was.
        port_variable: Variable that moves its port, for who must do so.
    """

    name: str
    role: Role
    command: Command
    host: str = "127.0.0.1"
    port: int | None = None
    readiness: tuple[Readiness, ...] = ()
    start_deadline: float = 60.0
    needs: tuple[str, ...] = ()
    standby: bool = False
    restart: RestartPolicy = RestartPolicy()
    stop: StopPolicy = StopPolicy()
    log: Path | None = None
    essential: bool = True
    instance: str = ""
    gpu: int | None = None
    directories: tuple[Path, ...] = ()
    watchdog: float = 0.0
    max_memory_mib: int = 0
    restart_with_needs: bool = False
    port_variable: str = ""

    @functools.cached_property
    def started_as(self) -> str:
        """Everything in it that decides how it is started, as one text to compare. What is done
        about it later, when it ends or grows, is no part of that.
        """
        return repr([getattr(self, name) for name in _STARTED_BY])


_LATER = {
    *("essential", "restart", "stop", "max_memory_mib", "restart_with_needs", "port_variable"),
}
_STARTED_BY = [name for name in attrs.fields_dict(ProcessSpec) if name not in _LATER]


class ProcessState(Enum):
    """How a process does. The words are supervisord's where it has one."""

    WAITING = "waiting"
    STARTING = "starting"
    RUNNING = "running"
    BACKOFF = "backoff"
    STOPPING = "stopping"
    STOPPED = "stopped"
    EXITED = "exited"
    FATAL = "fatal"


@attrs.frozen(kw_only=True)
class ExitCause:
    """Why a process ended.

    Attributes:
        code: Exit status; ``None`` if a signal ended it, or if nobody could tell.
        signal: Name of the signal that ended it, or empty.
        reason: In words: ``exit status 1``, ``killed by SIGKILL``, ``start deadline (60 s)``.
        at: Wall-clock seconds.
        tail: Last lines of its log; none if it was asked to end.
    """

    code: int | None = None
    signal: str = ""
    reason: str
    at: float
    tail: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class ProcessStatus:
    """What the supervisor knows of one process. Times are wall-clock seconds.

    Attributes:
        ready: Whether all its readiness conditions hold.
        since: When it came into its present state.
        started: When the running process was spawned, or ``None``.
        restarts: Starts after the first.
        waiting_for: What its readiness still waits for, in words; empty when ready.
        last_exit: How the process before this one ended.
        adopted: Whether an earlier orchestrator spawned it.
        ours: Whether it is the orchestrator itself (``health-server``), listed for the reader.
    """

    name: str
    role: Role
    state: ProcessState
    ready: bool = False
    pid: int | None = None
    port: int | None = None
    gpu: int | None = None
    essential: bool = True
    since: float
    started: float | None = None
    restarts: int = 0
    waiting_for: str = ""
    last_exit: ExitCause | None = None
    adopted: bool = False
    ours: bool = False
    log: str = ""
