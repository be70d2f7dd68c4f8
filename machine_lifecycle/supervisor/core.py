"""The supervisor: what others see of this room."""

from __future__ import annotations

import asyncio
import graphlib
import signal
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from machine_lifecycle.errors import LifecycleError, Problems
from machine_lifecycle.model.paths import Paths
from machine_lifecycle.model.ports import ProgressSink
from machine_lifecycle.model.processes import ProcessSpec, ProcessStatus
from machine_lifecycle.supervisor import spawn
from machine_lifecycle.supervisor.errors import NeedsUnmet, ProcessesLeft, UnknownProcess
from machine_lifecycle.supervisor.household import Household, new_token
from machine_lifecycle.supervisor.journal import Entry, Journal
from machine_lifecycle.supervisor.logs import Follower, size
from machine_lifecycle.supervisor.recovery import end_recorded, living
from machine_lifecycle.supervisor.tee import Tee
from machine_lifecycle.supervisor.tree import become_subreaper, reap_orphans
from machine_lifecycle.supervisor.unit import Unit
from machine_lifecycle.supervisor.waiting import Pulse, wait_ready
from machine_lifecycle.supervisor.wave import stop_wave

__all__ = ["Supervisor"]


def _check_needs(specs: Iterable[ProcessSpec], known: Mapping[str, Unit]) -> None:
    graph = {spec.name: spec.needs for spec in specs}
    for name, needs in graph.items():
        missing = tuple(need for need in needs if need not in graph and need not in known)
        if missing:
            raise NeedsUnmet(process=name, needs=missing)
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        circle = tuple(error.args[1])
        raise NeedsUnmet(process=circle[0], needs=circle[1:]) from error


def _raise_all(errors: Sequence[LifecycleError], subject: str) -> None:
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise Problems(subject=subject, errors=tuple(errors))


class Supervisor:
    """Keeps processes running. Implements ``machine_lifecycle.model.ports.Supervisor``.

    Made and used on one running event loop. Callbacks are called on it, and must not raise.
    """

    def __init__(
        self,
        *,
        paths: Paths,
        base_env: Mapping[str, str],
        secrets: Callable[[str], str | None],
        on_change: Callable[[ProcessStatus], None],
        on_fatal: Callable[[ProcessSpec, LifecycleError], None],
        on_needs: Callable[[str, bool], None],
        tee: Callable[[str, bytes], None] | None = None,
        guest: bool = False,
    ) -> None:
        """Start nothing yet.

        Args:
            paths: The machine's folders.
            base_env: What every process inherits.
            secrets: Value of a secret variable; ``None`` if it is not set.
            on_change: Told of every change of a process's state or readiness.
            on_fatal: Told of a process that is given up.
            on_needs: Told when all that a process needs gets ready, and when that is lost.
            tee: Takes every complete line of output, with the process's name.
            guest: Leave what belongs to the whole program alone: no subreaper, no SIGCHLD.
        """
        self._on_change, self._on_fatal, self._on_needs = on_change, on_fatal, on_needs
        self._reaps = not guest and become_subreaper()
        self._home = Household(
            paths=paths,
            base_env=dict(base_env),
            secrets=secrets,
            subreaper=self._reaps,
            journal=Journal(paths.journal),
        )
        self._units: dict[str, Unit] = {}
        self._inherited: dict[str, Entry] | None = None
        self._fulfilled: dict[str, bool] = {}
        self._pulse = Pulse()
        self._tee = Tee(tee) if tee else None
        self._waves = 0
        self._listens = False

    # The protocol

    async def launch(self, specs: Sequence[ProcessSpec]) -> None:
        """Spawn what may start now, the rest as what it needs gets ready; adopt what matches.

        Names that are running already are left alone.

        Raises:
            LifecycleError: Programs can't be started, with all that were found.
        """
        _check_needs(specs, self._units)
        self._listen_for_orphans()
        wave = self._waves
        await self._adopt(specs, {spec.name for spec in specs})
        if wave != self._waves:
            return  # everything was stopped meanwhile
        fresh = [spec for spec in specs if not self._runs(spec.name)]
        errors: list[LifecycleError] = []
        for spec in fresh:
            try:
                spawn.check_port(spec)
            except LifecycleError as error:
                errors.append(error)
        _raise_all(errors, "ports")
        units = [self._new_unit(spec) for spec in fresh]
        self._home.entries |= {u.spec.name: Entry(name=u.spec.name, token=u.token) for u in units}
        self._home.save()
        for unit in units:
            try:
                if unit.may_spawn():
                    unit.spawn()
            except LifecycleError as error:
                unit.refuse(error)
                errors.append(error)
            else:
                unit.begin()
        _raise_all(errors, "processes")
        await asyncio.sleep(0)

    async def wait_ready(self, names: Sequence[str], progress: ProgressSink) -> None:
        """Return when all are ready; raise the moment that can't happen any more.

        Raises:
            LifecycleError: One of them, or what it needs, was given up or has ended.
            UnknownProcess: There is none of that name.
        """
        for name in names:
            self._unit(name)
        await wait_ready(self._units, names, progress, self._pulse)

    async def stop_all(self, budget: float, *, support: bool = False) -> None:
        """End everything in one wave within *budget* seconds. See the protocol.

        Raises:
            ProcessesLeft: The kernel did not end a killed process.
        """
        self._waves += 1
        inherited, self._inherited = self._read_inherited(), {}
        for name in inherited:
            self._home.forget(name)
        units = [u for u in self._units.values() if support or u.spec.role.value != "support"]
        waves = (stop_wave(units, budget), end_recorded(inherited.values(), self._home))
        left = [pid for pids in await asyncio.gather(*waves) for pid in pids]
        if self._reaps:
            reap_orphans(self._home.known)
        if not any(unit.wanted or unit.child for unit in self._units.values()):
            self._hush()
        if left:
            raise ProcessesLeft(pids=tuple(left))

    def kill_all(self) -> None:
        """End every process tree at once, without asking."""
        self._waves += 1
        for unit in self._units.values():
            unit.kill()

    def statuses(self) -> tuple[ProcessStatus, ...]:
        """Every process, in the order of the plan."""
        return tuple(unit.status() for unit in self._units.values())

    # Single processes

    async def restart(self, name: str) -> None:
        """Stop a process if it runs, and start it."""
        wave = self._waves
        await self.stop(name)
        if wave == self._waves:  # else everything was stopped meanwhile
            await self.start(name)

    async def stop(self, name: str) -> None:
        """Stop a process; it stays stopped until it is started or launched again."""
        unit = self._unit(name)
        left = await unit.stop(unit.spec.stop.grace)
        if left:
            raise ProcessesLeft(pids=left)

    async def start(self, name: str) -> None:
        """Start a process that is stopped, has ended, or was given up; its count starts anew."""
        spec = self._unit(name).spec
        await self.launch([spec])

    def link_ready(self, process_name: str, ready: bool) -> None:  # noqa: FBT001 - one fact
        """A worker says over its link that it is connected, or no longer is."""
        self._unit(process_name).link(ready=ready)

    def may_go(self, process_name: str) -> bool:
        """Whether everything that a process needs is ready."""
        return self._needs_ready(self._unit(process_name))

    async def recover(self, specs: Sequence[ProcessSpec]) -> tuple[str, ...]:
        """Adopt what an earlier orchestrator left running and is wanted as it is; end the rest.

        Returns:
            Names of the adopted processes.
        """
        self._listen_for_orphans()
        names = {spec.name for spec in specs} | set(self._read_inherited())
        return await self._adopt(specs, names)

    def log_paths(self) -> dict[str, Path]:
        """The log file of every process, by name."""
        return {name: unit.log for name, unit in self._units.items()}

    # What units tell

    def changed(self, unit: Unit) -> None:
        """A unit's state or readiness is another: tell its dependants and whoever listens."""
        self._on_change(unit.status())
        for other in self._units.values():
            if unit.spec.name in other.spec.needs:
                self._tell_needs(other)
        self._pulse.beat()

    def given_up(self, unit: Unit, error: LifecycleError) -> None:
        """A unit won't be started again."""
        self._pulse.beat()
        self._on_fatal(unit.spec, error)

    # Inside

    def _unit(self, name: str) -> Unit:
        try:
            return self._units[name]
        except KeyError:
            raise UnknownProcess(process=name, known=tuple(self._units)) from None

    def _runs(self, name: str) -> bool:
        unit = self._units.get(name)
        return unit is not None and (unit.wanted or unit.child is not None)

    def _needs_ready(self, unit: Unit) -> bool:
        return all((need := self._units.get(name)) and need.ready for name in unit.spec.needs)

    def _tell_needs(self, unit: Unit) -> None:
        ready = self._needs_ready(unit)
        if self._fulfilled.get(unit.spec.name, False) != ready:
            self._fulfilled[unit.spec.name] = ready
            unit.needs_changed(ready=ready)
            self._on_needs(unit.spec.name, ready)

    def _new_unit(self, spec: ProcessSpec) -> Unit:
        unit = Unit(spec, new_token(), self._home, self)
        self._units[spec.name] = unit
        if self._fulfilled.get(spec.name):
            unit.needs_changed(ready=True)
        elif spec.needs:
            self._tell_needs(unit)
        if self._tee:
            self._tee.add(spec.name, Follower(unit.log, size(unit.log)))
        return unit

    def _read_inherited(self) -> dict[str, Entry]:
        if self._inherited is None:
            self._inherited = self._home.journal.read()
            self._home.entries = {**self._inherited, **self._home.entries}
        return self._inherited

    async def _adopt(self, specs: Sequence[ProcessSpec], names: set[str]) -> tuple[str, ...]:
        inherited = self._read_inherited()
        entries = [inherited.pop(name) for name in names if name in inherited]
        wanted = {spec.name: spec for spec in specs if not self._runs(spec.name)}
        adopted, others = [], []
        for entry in entries:
            spec = wanted.get(entry.name)
            same = spec is not None and entry.digest == spawn.digest(spec, self._home.secrets)
            if spec is not None and same and living(entry):
                adopted.append((self._new_unit(spec), entry))
            else:
                others.append(entry)
        for entry in others:
            self._home.forget(entry.name)
        for unit, entry in tuple(adopted):
            try:
                unit.adopt(entry)
            except ProcessLookupError:
                adopted.remove((unit, entry))
                others.append(entry)
                del self._units[entry.name]
            else:
                unit.begin()
        left = await end_recorded(others, self._home)
        if left:
            raise ProcessesLeft(pids=left)
        return tuple(unit.spec.name for unit, _ in adopted)

    def _listen_for_orphans(self) -> None:
        """Reap what the kernel hands to us when it ends, without waiting for another death."""
        if self._reaps and threading.current_thread() is threading.main_thread():
            loop = asyncio.get_running_loop()
            loop.add_signal_handler(signal.SIGCHLD, lambda: reap_orphans(self._home.known))
            self._listens = True

    def _hush(self) -> None:
        if self._listens:
            asyncio.get_running_loop().remove_signal_handler(signal.SIGCHLD)
            self._listens = False
        if self._tee:
            self._tee.close()
