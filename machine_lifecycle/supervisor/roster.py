"""All units by name, and what one unit's change means for the others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from machine_lifecycle.errors import LifecycleError
from machine_lifecycle.model.packs import Run
from machine_lifecycle.model.processes import ProcessSpec, ProcessState, ProcessStatus
from machine_lifecycle.supervisor.errors import UnknownProcess
from machine_lifecycle.supervisor.household import Household, new_token
from machine_lifecycle.supervisor.life import OurEnd
from machine_lifecycle.supervisor.logs import Follower, size
from machine_lifecycle.supervisor.memory import Limited
from machine_lifecycle.supervisor.tee import Tee
from machine_lifecycle.supervisor.unit import Unit
from machine_lifecycle.supervisor.waiting import Pulse

__all__ = ["Roster"]

_ENDED = (ProcessState.BACKOFF, ProcessState.STOPPED, ProcessState.EXITED, ProcessState.FATAL)


class Roster:
    """The units of one supervisor. Hears of their changes and tells those whom they concern.

    Attributes:
        units: In the order of the plan.
        pulse: Beats at every change.
    """

    def __init__(
        self,
        home: Household,
        *,
        on_change: Callable[[ProcessStatus], None],
        on_fatal: Callable[[ProcessSpec, LifecycleError], None],
        on_needs: Callable[[str, bool], None],
        tee: Tee | None,
    ) -> None:
        self.units: dict[str, Unit] = {}
        self.pulse: Pulse = Pulse()
        self._home = home
        self._on_change, self._on_fatal, self._on_needs = on_change, on_fatal, on_needs
        self._tee = tee
        self._fulfilled: dict[str, bool] = {}
        self._needing: dict[str, set[str]] = {}

    def unit(self, name: str) -> Unit:
        """The unit of this name.

        Raises:
            UnknownProcess: There is none.
        """
        try:
            return self.units[name]
        except KeyError:
            raise UnknownProcess(process=name, known=tuple(self.units)) from None

    def runs(self, name: str) -> bool:
        """Whether there is a unit of this name that runs, or will by itself."""
        unit = self.units.get(name)
        return unit is not None and (unit.wanted or unit.child is not None)

    def enlist(self, spec: ProcessSpec) -> Unit:
        """A new unit, in place of one that ended. It isn't started."""
        before = self.units.get(spec.name)
        for need in before.spec.needs if before else ():
            self._needing[need].discard(spec.name)
        for need in spec.needs:
            self._needing.setdefault(need, set()).add(spec.name)
        unit = Unit(spec, new_token(), self._home, self)
        self.units[spec.name] = unit
        if self._fulfilled.get(spec.name):
            unit.needs_changed(ready=True)
        if self._tee:
            self._tee.add(spec.name, Follower(unit.log, size(unit.log)))
        return unit

    async def clear(self, specs: Iterable[ProcessSpec]) -> None:
        """Return when those that don't run find what they must before a start."""
        before_start = self._home.before_start
        if before_start is None:
            return
        ended = [spec for spec in specs if not self.runs(spec.name) and not spec.needs]
        await asyncio.gather(*(before_start(spec, self._teller(spec.name)) for spec in ended))

    def _teller(self, name: str) -> Callable[[str], None]:
        unit = self.units.get(name)  # none before the first start, which waits for nothing
        return unit.startup.expect if unit else lambda _: None

    def dismiss(self, name: str) -> None:
        """Know no longer a unit that was stopped for good."""
        self.units.pop(name, None)
        self._fulfilled.pop(name, None)

    def arrange(self, names: Iterable[str]) -> None:
        """List these last, in this order: that of the plan, whenever each was launched."""
        for name in names:
            self.units[name] = self.units.pop(name)

    def needs_ready(self, unit: Unit) -> bool:
        """Whether everything that a unit needs is ready."""
        needs = [self.units.get(name) for name in unit.spec.needs]
        return all(need is not None and need.ready for need in needs)

    def needed(self, unit: Unit) -> tuple[Run, ...]:
        """The processes that a unit needs, as they run now."""
        found = (self.units.get(name) for name in unit.spec.needs)
        return tuple(
            Run(
                instance=need.spec.name,
                port=need.spec.port or 0,
                log=need.log,
                offset=need.startup.log_offset,
                started=need.status().started or 0.0,
            )
            for need in found
            if need is not None
        )

    def tell_needs(self, unit: Unit) -> None:
        """Tell a unit, and whoever listens, if what it needs got ready or was lost."""
        ready = self.needs_ready(unit)
        # One that stands by waits for the word, even where nothing has to be ready first: its
        # service runs elsewhere.
        concerned = unit.spec.needs or unit.spec.standby
        if concerned and self._fulfilled.get(unit.spec.name, False) != ready:
            self._fulfilled[unit.spec.name] = ready
            unit.needs_changed(ready=ready)
            self._on_needs(unit.spec.name, ready)

    def changed(self, unit: Unit) -> None:
        """A unit's state or readiness is another."""
        self._on_change(unit.status())
        for name in self._needing.get(unit.spec.name, ()):
            if name in self.units:
                self.tell_needs(self.units[name])
                self._take_along(self.units[name], unit)
        self.pulse.beat()

    @staticmethod
    def _take_along(unit: Unit, needed: Unit) -> None:
        """Start a unit anew with one that it needs, where its spec says so."""
        wanted = unit.spec.restart_with_needs and unit.state is ProcessState.RUNNING
        if wanted and needed.state in _ENDED:
            reason = f"{needed.spec.name}, which it needs, has ended"
            unit.end_for(OurEnd(reason=reason, counts=False))

    def limited(self) -> list[Limited] | None:
        """The running trees that may hold only so much memory; ``None`` if none will."""
        units = [one for one in self.units.values() if one.spec.max_memory_mib and one.wanted]
        if not units:
            return None
        return [
            Limited(
                pid=unit.child.pid,
                most=unit.spec.max_memory_mib << 20,
                end=lambda words, unit=unit: unit.end_for(OurEnd(reason=words, counts=True)),  # type: ignore[misc]  # a bound default
            )
            for unit in units
            if unit.child is not None
        ]

    def given_up(self, unit: Unit, error: LifecycleError) -> None:
        """A unit won't be started again."""
        self.pulse.beat()
        self._on_fatal(unit.spec, error)
