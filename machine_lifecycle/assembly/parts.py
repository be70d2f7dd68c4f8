"""Everything one machine is made of, put together and taken apart again."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import attrs

from machine_lifecycle.assembly.commands import Commands, Steered
from machine_lifecycle.assembly.crash_loop import CrashLoop, configuration_digest, crash_loop
from machine_lifecycle.assembly.fleet import Fleet
from machine_lifecycle.assembly.from_settings import boot_policy, log_rules, state_limits
from machine_lifecycle.assembly.gpu_memory import gpu_memory_gate
from machine_lifecycle.assembly.hooks import hooked
from machine_lifecycle.assembly.host_watch import HostWatch, host_watch
from machine_lifecycle.assembly.installing import Installation
from machine_lifecycle.assembly.lock import machine_lock
from machine_lifecycle.assembly.mending import Mending
from machine_lifecycle.assembly.pack_times import PackTimer
from machine_lifecycle.assembly.packs import PackWatch
from machine_lifecycle.assembly.planner import MachinePlanner
from machine_lifecycle.assembly.queue import Queue
from machine_lifecycle.assembly.report import Reporter
from machine_lifecycle.assembly.retention import Retention, rules_of
from machine_lifecycle.assembly.verify import RunningParts
from machine_lifecycle.assembly.watching import Watching
from machine_lifecycle.config.settings import secret_values
from machine_lifecycle.control.links import Links
from machine_lifecycle.control.server import ControlServer
from machine_lifecycle.control.workers import Listeners
from machine_lifecycle.health.server import HealthServer
from machine_lifecycle.lifecycle import events
from machine_lifecycle.lifecycle.core import Lifecycle
from machine_lifecycle.lifecycle.gates import Gates
from machine_lifecycle.lifecycle.hooks import EventBus
from machine_lifecycle.lifecycle.runner import Runner
from machine_lifecycle.model.paths import Paths
from machine_lifecycle.model.plan import BootPlan
from machine_lifecycle.model.ports import ProgressSink
from machine_lifecycle.model.settings import OnFailed, Settings, setting_info
from machine_lifecycle.model.status import ConditionKind
from machine_lifecycle.plan.manifest import manifest
from machine_lifecycle.states import stimuli
from machine_lifecycle.states.context import Context
from machine_lifecycle.states.names import MachineState
from machine_lifecycle.supervisor.core import Supervisor
from machine_lifecycle.system.clock import SystemClock
from machine_lifecycle.system.files import write_atomically
from machine_lifecycle.system.folders import find_paths, prepare
from machine_lifecycle.system.gpus import Gpus
from machine_lifecycle.system.identity import machine_id
from machine_lifecycle.system.logs import log_stream, register_secret

__all__ = ["Parts", "assemble"]

_ANYWHERE = ("0.0.0.0", "::", "")  # noqa: S104 - compared, not bound
_log = logging.getLogger("machine_lifecycle.machine")


@attrs.frozen
class ManifestFile:
    """The process manifest on disk; implements ``states.context.Manifest``."""

    path: Path

    def write(self, plan: BootPlan) -> None:
        """Write it in one step."""
        write_atomically(self.path, manifest(plan))


class Parts:
    """The parts of one machine, wired."""

    def __init__(
        self,
        settings: Settings,
        paths: Paths,
        identity: str,
        environ: Mapping[str, str],
        *,
        guest: bool,
    ) -> None:
        self.settings: Settings = settings
        self.paths: Paths = paths
        self.machine_id: str = identity
        self._machine: Steered | None = None
        self._secrets = secret_values(settings)
        self.clock: SystemClock = SystemClock()
        self.manifest: ManifestFile = ManifestFile(paths.manifest)
        self.bus: EventBus = EventBus(self.clock)
        self.bus.machine_id = identity
        self.gates: Gates = Gates(self.clock)
        self.lifecycle: Lifecycle = Lifecycle(
            policy=boot_policy(settings),
            limits=state_limits(settings),
            stop_budget=settings.stop_budget,
            stay=settings.on_failed is OnFailed.STAY,
        )
        self.watching: Watching = Watching(
            lifecycle=self.lifecycle, bus=self.bus, floor=settings.min_healthy
        )
        self.mending: Mending = Mending(
            lifecycle=self.lifecycle,
            # Before a service is restarted: else its worker takes a job in that moment.
            hold=lambda process: self.watching.needs_changed(process, ready=False),
        )
        self.supervisor: Supervisor = Supervisor(
            paths=paths,
            base_env=_inherited(environ),
            # Secrets of plug-ins are in the environment alone. Asked at each spawn, since a reload
            # may have changed them.
            secrets=lambda who: {**environ, **self._secrets, **self.queue.secrets()}.get(who),  # noqa: PLW0108
            on_change=self.watching.process_changed,
            on_fatal=self.watching.process_given_up,
            on_needs=self.watching.needs_changed,
            tee=_tee if settings.tee_logs else None,
            log_rules=log_rules(settings),
            on_alarm=self.watching.logs_in_trouble,
            before_start=gpu_memory_gate(settings, self.clock, self.lifecycle.record).wait,
            guest=guest,
        )
        self._gpus = Gpus(settings=settings)
        self.installer: Installation = Installation(settings, paths, environ, self._gpus)
        self.packs: PackWatch = PackWatch(
            lifecycle=self.lifecycle,
            bus=self.bus,
            listed=self.installer.listed,
            failed=lambda: tuple(self.installer.failures),
            moved=self.installer.moved,
            conditions=self.watching,
        )
        self.links: Links = Links(_listeners(self), wall=self.clock.wall)
        self.planner: MachinePlanner = MachinePlanner(
            settings=settings, paths=paths, machine_id=identity, environ=environ
        )
        simulated, self._port = self.planner.simulated(), 0
        self.queue: Queue = Queue(settings, paths, self.supervisor, simulated=simulated)
        self.reporter: Reporter = Reporter(
            machine_id=identity,
            lifecycle=self.lifecycle,
            supervisor=self.supervisor,
            clock=self.clock,
            workers=self.links.statuses,
            packs=self.packs.report,
            queue=lambda: (self.fleet.connected, self.queue.where, self.fleet.trouble),
            health=lambda: (self.health_url, self._port),
            disk=lambda: self.host.disk.free,
        )
        self.host: HostWatch = host_watch(settings, paths, self.watching, self.mending)
        self.crash_loop: CrashLoop = crash_loop(settings, paths, self.clock, self.watching)
        self.fleet: Fleet = Fleet(
            queue=self.queue,
            machine_id=identity,
            report=self.reporter.report,
            interval=settings.status_interval,
            on_lost=lambda error: self.runner.post(
                stimuli.Faulted(attempt=self.lifecycle.attempt, error=error)
            ),
            on_drained=lambda ordered: _drained(self, ordered=ordered),
        )
        self._verifier = RunningParts(
            clock=self.clock,
            supervisor=self.supervisor,
            links=self.links,
            health_server=lambda: bool(self._port),
            packs=self.packs.checks,
        )
        self.runner: Runner = Runner(
            self.lifecycle,
            clock=self.clock,
            bus=self.bus,
            context=self._context,
            waiting=self.reporter.waiting,
            gates=self.gates,
        )
        _tie(self)
        commands = Commands(
            reporter=self.reporter,
            supervisor=self.supervisor,
            bus=self.bus,
            fleet=self.fleet,
            machine=self._steered,
        )
        self.control: ControlServer = ControlServer(paths.control_socket, commands, self.links)
        self.health: HealthServer = HealthServer(
            settings.health_host, settings.health_port, commands, settings.health_token
        )

    @property
    def health_url(self) -> str:
        """Where the health pages are, seen from this host; empty before they are up."""
        return _page(self.settings.health_host, self._port) if self._port else ""

    def bind(self, machine: Steered) -> None:
        """Name the machine that commands steer."""
        self._machine = machine

    def _steered(self) -> Steered:
        if self._machine is None:
            raise RuntimeError("commands before the machine is there")
        return self._machine

    def _context(self, attempt: int, progress: ProgressSink) -> Context:
        return Context(
            settings=self.settings,
            paths=self.paths,
            clock=self.clock,
            attempt=attempt,
            hardware=self._gpus,
            planner=self.planner,
            installer=self.installer,
            supervisor=self.supervisor,
            links=self.links,
            registry=self.fleet,
            queue=self.queue,
            verifier=self._verifier,
            manifest=self.manifest,
            progress=progress,
            current_plan=lambda: self.lifecycle.record.plan,
            jobs=self.watching,
            condition=self.watching.raise_condition,
            crash_loop=self.crash_loop,
        )

    def retake(self, settings: Settings) -> None:
        """Plan by other settings, and give processes their secrets, from here on."""
        self._secrets = _registered(settings)
        self.settings = settings
        self.planner = attrs.evolve(self.planner, settings=settings)

    async def start(self) -> None:
        """Open the pages and the socket, and listen to what moves."""
        self.bus.on(events.Event, self.reporter.hear)  # one observer: beginnings before ends
        self.bus.on(events.Event, lambda _: self.health.changed())
        self.bus.on(events.Changed, self._moved)
        self.bus.on(events.MachineReady, self._ready)
        await self.control.start()
        self._port = await self.health.start()
        self.host.start(self.bus)

    async def close(self) -> None:
        """Close everything. Nothing of the machine runs any more by now."""
        await self.host.close()
        await self.bus.close()
        await self.health.close()
        await self.control.close()

    async def _moved(self, event: events.Changed) -> None:
        if event.source is MachineState.STARTING and self.lifecycle.record.plan:
            self.watching.expect(self.lifecycle.record.plan)
            self.queue.announce(self.machine_id, os.getpid(), self.health_url)
        if event.target is MachineState.RESTARTING:
            self.watching.begin_anew()
            self.packs.begin_anew()
        if event.source is MachineState.CUSTOM_NODES:
            self.packs.settle()  # adopted workers may have told before the list was read
        await self.fleet.moved(event.source, event.target)

    async def _ready(self, _: events.MachineReady) -> None:
        self.watching.settle()
        await self.fleet.publish("machine_ready")


def _listeners(parts: Parts) -> Listeners:
    """Who is told what workers say."""
    return Listeners(
        connected=parts.watching.worker_connected,
        job_taken=parts.watching.job_taken,
        job_done=parts.watching.job_done,
        trouble=parts.mending.worker_in_trouble,
        troubled=parts.watching.worker_troubled,
        warming=parts.watching.worker_warms,
        loaded=parts.packs.heard,
        change=lambda: parts.health.changed(),  # noqa: PLW0108 - it is made later
    )


def _tie(parts: Parts) -> None:
    """Tell those that were made first of those that were made after them."""
    parts.watching.supervisor, parts.watching.links = parts.supervisor, parts.links
    parts.watching.post = parts.runner.post
    parts.watching.worker_died = parts.fleet.worker_died
    parts.watching.process_ended = parts.mending.process_ended
    parts.mending.supervisor, parts.mending.links = parts.supervisor, parts.links


def _drained(parts: Parts, *, ordered: bool) -> None:
    """The queue gives this machine no jobs, by an order in Redis; or it does again."""
    kind = ConditionKind.DRAINING
    if ordered:
        reason = "its queue was told to give it no jobs"
        parts.runner.post(stimuli.ConditionRaised(kind=kind, reason=reason))
    elif not parts.links.draining:
        parts.runner.post(stimuli.ConditionCleared(kind=kind))


def _page(host: str, port: int) -> str:
    return f"http://{'127.0.0.1' if host in _ANYWHERE else host}:{port}"


def _registered(settings: Settings) -> dict[str, str]:
    """Secrets by the names of their variables; no log shows their values from here on."""
    secrets = dict(secret_values(settings))
    for value in secrets.values():
        register_secret(value)
    return secrets


def _inherited(environ: Mapping[str, str]) -> dict[str, str]:
    """What processes inherit: everything but our secrets, which some get by name."""
    secret = {name for info in setting_info() if info.secret for name in info.env}
    return {name: value for name, value in environ.items() if name not in secret}


def _tee(name: str, line: bytes) -> None:
    """Repeat a line where our own go: never among events on stdout."""
    out = log_stream().buffer
    with contextlib.suppress(OSError):  # nobody reads any more; the log files have it
        out.write(b"[%s] %s\n" % (name.encode(), line))
        out.flush()


@contextlib.asynccontextmanager
async def assemble(
    settings: Settings, environ: Mapping[str, str], *, guest: bool
) -> AsyncIterator[Parts]:
    """Put a machine together under its lock, and take it apart.

    Raises:
        LifecycleError: A folder can't be used, the machine runs already, a port is taken.
    """
    _registered(settings)
    paths = find_paths(settings, environ)
    prepare(paths)
    with machine_lock(paths):
        identity, _ = machine_id(settings, environ, paths)
        parts = Parts(settings, paths, identity, environ, guest=guest)
        async with hooked(
            settings,
            machine_id=identity,
            bus=parts.bus,
            gates=parts.gates,
            queue=lambda: parts.queue.url,
        ):
            retention = Retention(lifecycle=parts.lifecycle, rules=rules_of(settings))
            timer = PackTimer(
                lifecycle=parts.lifecycle,
                bus=parts.bus,
                path=paths.pack_times,
                spent=parts.installer.spent,
                loaded=parts.packs.report,
            )
            parts.bus.on(events.MachineReady, timer.hear)
            parts.bus.on(events.MachineFailed, timer.hear)
            parts.bus.on(events.MachineReady, retention.hear)
            parts.bus.on(events.JobFinished, retention.hear)
            parts.bus.on(events.Event, parts.crash_loop.hear)
            try:
                await parts.start()
                parts.crash_loop.begin(configuration_digest(settings))
                yield parts
            finally:
                parts.crash_loop.close()
                await retention.close()
                await parts.close()
