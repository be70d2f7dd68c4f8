"""The supervisor: what others see of this room."""

from __future__ import annotations

import asyncio
import graphlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from machine_lifecycle.errors import LifecycleError, Problems
from machine_lifecycle.model.paths import Paths
from machine_lifecycle.model.processes import ProcessSpec, ProcessStatus
from machine_lifecycle.supervisor import spawn
from machine_lifecycle.supervisor.changes import Changes, compare
from machine_lifecycle.supervisor.errors import NeedsUnmet, ProcessesLeft
from machine_lifecycle.supervisor.household import BeforeStart, Household
from machine_lifecycle.supervisor.journal import Entry, Journal
from machine_lifecycle.supervisor.keeping import LogKeeper
from machine_lifecycle.supervisor.memory import MemoryWatch
from machine_lifecycle.supervisor.orphans import OrphanWatch
from machine_lifecycle.supervisor.recovery import Inheritance, end_recorded
from machine_lifecycle.supervisor.roster import Roster
from machine_lifecycle.supervisor.rotation import LogRules
from machine_lifecycle.supervisor.single import SingleProcesses
from machine_lifecycle.supervisor.tee import Tee
from machine_lifecycle.supervisor.tree import become_subreaper
from machine_lifecycle.supervisor.unit import Unit, failure
from machine_lifecycle.supervisor.waiting import wait_ready
from machine_lifecycle.supervisor.wave import stop_wave

if TYPE_CHECKING:  # it brings the whole plan along
    from machine_lifecycle.model.ports import ProgressSink

__all__ = ["Supervisor"]


def _check_needs(specs: Sequence[ProcessSpec], known: Mapping[str, Unit]) -> None:
    graph = {spec.name: spec.needs for spec in specs}
    for spec in specs:
        missing = tuple(need for need in spec.needs if need not in graph and need not in known)
        if missing and not spec.standby:  # which waits, also for what is launched later
            raise NeedsUnmet(process=spec.name, needs=missing)
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


def _check_all(
    specs: Sequence[ProcessSpec], check: Callable[[ProcessSpec], None], subject: str
) -> None:
    errors: list[LifecycleError] = []
    for spec in specs:
        try:
            check(spec)
        except LifecycleError as error:
            errors.append(error)
    _raise_all(errors, subject)


def _check_ports(specs: Sequence[ProcessSpec]) -> None:
    _check_all(specs, spawn.check_port, "ports")


def _check_fresh(specs: Sequence[ProcessSpec], units: Iterable[Unit], home: Household) -> None:
    """Raise if something can be seen to be impossible; what runs now won't be in the way."""
    own = {(unit.spec.host, unit.spec.port) for unit in units if unit.child}
    _check_ports([spec for spec in specs if (spec.host, spec.port) not in own])
    base, secrets = home.base_env, home.secrets
    _check_all(specs, lambda spec: spawn.check_start(spec, base, secrets), "processes")


class Supervisor(SingleProcesses):
    """Keeps processes running. Implements ``machine_lifecycle.model.ports.Supervisor``.

    Made and used on one running event loop. Callbacks are called on it, and must not raise.
    """

    def __init__(
        self,
        *,
        paths: Paths,
        base_env: Mapping[str, str],
        secrets: Callable[[str], str | None] = lambda _: None,
        on_change: Callable[[ProcessStatus], None] = lambda _: None,
        on_fatal: Callable[[ProcessSpec, LifecycleError], None] = lambda *_: None,
        on_needs: Callable[[str, bool], None] = lambda *_: None,
        tee: Callable[[str, bytes], None] | None = None,
        log_rules: LogRules = LogRules(),  # noqa: B008 - a frozen value
        on_alarm: Callable[[str], None] = lambda _: None,
        before_start: BeforeStart | None = None,
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
            log_rules: How much of each log is kept.
            on_alarm: Told in words what keeps logs from being kept, and an empty text when that is
                past.
            before_start: Awaited before each start, also the first, once its needs are ready.
            guest: Leave what belongs to the whole program alone: no subreaper, no SIGCHLD.
        """
        self._home = Household(
            paths=paths,
            base_env=dict(base_env),
            secrets=secrets,
            reaps=not guest and become_subreaper(),
            journal=Journal(paths.journal),
            keeper=LogKeeper(log_rules, on_alarm),
            before_start=before_start,
        )
        self._tee = Tee(tee) if tee else None
        self._roster = Roster(
            self._home, on_change=on_change, on_fatal=on_fatal, on_needs=on_needs, tee=self._tee
        )
        self._inheritance = Inheritance(self._home, self._roster)
        self._orphans = OrphanWatch(self._home.orphans) if self._home.orphans else None
        self._memory = MemoryWatch(self._roster.limited)
        self._waves = 0

    # The protocol

    async def launch(self, specs: Sequence[ProcessSpec]) -> None:
        """Spawn what may start now, the rest as what it needs gets ready; adopt what matches.

        Names that are running already are left alone.

        Raises:
            LifecycleError: Programs can't be started, with all that were found.
        """
        _check_needs(specs, self._roster.units)
        self._open()
        wave = self._waves
        await self._inheritance.settle(specs, {spec.name for spec in specs})
        await self._roster.clear(specs)
        if wave != self._waves:
            return  # everything was stopped meanwhile
        fresh = [spec for spec in specs if not self._roster.runs(spec.name)]
        _check_ports(fresh)
        errors: list[LifecycleError] = []
        units = [self._roster.enlist(spec) for spec in fresh]
        for unit in units:
            self._roster.tell_needs(unit)
        self._home.entries |= {u.spec.name: Entry(name=u.spec.name, token=u.token) for u in units}
        self._home.save()
        for unit in units:
            try:
                if unit.may_spawn():
                    unit.spawn()
            except (LifecycleError, OSError) as error:
                told = error if isinstance(error, LifecycleError) else failure(unit, str(error))
                unit.refuse(told)
                errors.append(told)
            else:
                unit.begin()
        self._memory.begin()
        self._roster.arrange(spec.name for spec in specs)
        _raise_all(errors, "processes")
        await asyncio.sleep(0)

    async def wait_ready(self, names: Sequence[str], progress: ProgressSink | None = None) -> None:
        """Return when all are ready; raise the moment that can't happen any more.

        Raises:
            LifecycleError: One of them, or what it needs, was given up or has ended.
            UnknownProcess: There is none of that name.
        """
        for name in names:
            self._roster.unit(name)
        await wait_ready(self._roster.units, names, progress, self._roster.pulse)

    async def stop_all(self, budget: float, *, support: bool = False) -> None:
        """End everything in one wave within *budget* seconds. See the protocol.

        Raises:
            ProcessesLeft: The kernel did not end a killed process.
        """
        self._waves += 1
        inherited = self._inheritance.take()
        units = [
            u for u in self._roster.units.values() if support or u.spec.role.value != "support"
        ]
        waves = (stop_wave(units, budget), end_recorded(inherited, self._home))
        left = [pid for pids in await asyncio.gather(*waves) for pid in pids]
        if self._home.orphans:
            self._home.orphans.reap()
        if not any(unit.wanted or unit.child for unit in self._roster.units.values()):
            self._close()
        if left:
            raise ProcessesLeft(pids=tuple(left))

    def kill_all(self) -> None:
        """End every process tree at once, without asking."""
        self._waves += 1
        for unit in self._roster.units.values():
            unit.kill()

    def statuses(self) -> tuple[ProcessStatus, ...]:
        """Every process, in the order of the plan."""
        return tuple(unit.status() for unit in self._roster.units.values())

    # Another plan

    async def replace(self, specs: Sequence[ProcessSpec], budget: float) -> Changes:
        """Keep these running instead of those of the plan before: what is the same is left alone.

        What can be seen to be impossible is refused before anything is ended.

        Args:
            specs: All of the new plan.
            budget: Seconds in which those that are changed or no longer wanted may end.

        Raises:
            LifecycleError: Something of the new plan can't be started, or of the old one ended.
        """
        _check_needs(specs, {})
        units = self._roster.units
        changes = compare(
            {name: unit.spec for name, unit in units.items()},
            specs,
            lambda spec: not units[spec.name].runs_as(spec),
        )
        fresh = [spec for spec in specs if spec.name not in changes.same]
        _check_fresh(fresh, units.values(), self._home)
        ending = [units[name] for name in (*changes.removed, *changes.changed)]
        left = await stop_wave(ending, budget)
        if left:
            raise ProcessesLeft(pids=left)
        for name in changes.removed:
            self._roster.dismiss(name)
        for spec in specs:
            if spec.name in changes.same:  # but for what its end would lead to, perhaps
                units[spec.name].spec = spec
        await self.launch(fresh)
        self._roster.arrange(spec.name for spec in specs)
        return changes

    async def recover(self, specs: Sequence[ProcessSpec]) -> tuple[str, ...]:
        """Adopt what an earlier orchestrator left running and is wanted as it is; end the rest.

        Returns:
            Names of the adopted processes.

        Raises:
            PortTaken: A stranger has a port of one that does not run yet. Some services would
                notice only after a long start, and before that comes the installation.
        """
        self._open()
        adopted = await self._inheritance.settle(specs)
        _check_ports([spec for spec in specs if not self._roster.runs(spec.name)])
        return adopted

    # Inside

    def _open(self) -> None:
        if self._orphans:
            self._orphans.open()

    def _close(self) -> None:
        if self._orphans:
            self._orphans.close()
        self._home.keeper.close()
        self._memory.close()
        if self._tee:
            self._tee.close()
