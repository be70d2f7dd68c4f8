"""Which node packs are in, on which instance, and what that means for the machine."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Protocol

import attrs

from machine_lifecycle.assembly.pack_floor import Listed, missing_too_much
from machine_lifecycle.lifecycle import events
from machine_lifecycle.lifecycle.core import Lifecycle
from machine_lifecycle.lifecycle.hooks import EventBus
from machine_lifecycle.model.packs import Loaded, Pack, PackState
from machine_lifecycle.model.plan import BootPlan
from machine_lifecycle.model.ports import Check
from machine_lifecycle.model.status import ConditionKind, causes_in_words

__all__ = ["CAUSE", "PackWatch", "left_out_words", "missed", "moved_words", "with_absent"]

CAUSE = "loading"
"""Under which the condition is raised: it lasts while processes come and go."""
_NO_PACK = "__init__.py'"
"""How the reason ends for a folder that is no pack: it has no such file."""


def with_absent(loaded: Loaded, listed: Collection[str]) -> Loaded:
    """The same, with the packs that are listed and of which the service said nothing.

    Only where it told of all that it tried: what can't be known is not held against it.
    """
    known = {pack.name for pack in loaded.packs}
    if not loaded.complete or known.issuperset(listed):
        return loaded
    reason = "it is not in the folder that the service looked into, or is disabled"
    absent = (
        Pack(name=name, state=PackState.ABSENT, reason=reason) for name in sorted({*listed} - known)
    )
    return attrs.evolve(loaded, packs=(*loaded.packs, *absent))


def missed(loaded: Loaded, listed: Collection[str]) -> tuple[Pack, ...]:
    """The packs without which this instance is less than was asked for.

    Those of the list. Where there is none, whatever lies in the folder is meant to be there, but
    for folders that are no packs. Others that fail are shown, and nobody waits for them.
    """
    out = [pack for pack in loaded.packs if pack.state is not PackState.LOADED]
    if listed:
        return tuple(pack for pack in out if pack.name in listed)
    return tuple(pack for pack in out if not pack.reason.endswith(_NO_PACK))


def left_out_words(missed_by: Mapping[str, tuple[Pack, ...]]) -> str:
    """What did not load, where, and why; instances that miss the same are told together."""
    alike: dict[tuple[tuple[str, str], ...], list[str]] = defaultdict(list)
    for instance, packs in missed_by.items():
        if packs:
            alike[tuple((pack.name, pack.reason) for pack in packs)].append(instance)
    parts = []
    for out, instances in alike.items():
        many = "s" if len(out) > 1 else ""
        where = ", ".join(instances)
        words = causes_in_words(dict(out))
        parts.append(f"{len(out)} node pack{many} did not load on {where}: {words}")
    return "; ".join(parts)


def moved_words(moved: Mapping[str, tuple[str, ...]]) -> str:
    """Which packages of which service are not those that were installed, and what to do."""
    return "; ".join(
        f"packages of {service} were changed since they were installed, by a node pack say: "
        f"{', '.join(lines)}; the next boot puts them back"
        for service, lines in moved.items()
        if lines
    )


class Conditions(Protocol):
    """What stands beside the machine's state."""

    def raise_condition(self, kind: str, cause: str, words: str, /) -> None:
        """It holds from now on, or for another reason."""

    def drop_cause(self, kind: str, cause: str, /) -> None:
        """It does not hold any more, as far as this cause goes."""


@attrs.define(kw_only=True, eq=False)
class PackWatch:
    """Hears from workers what their services loaded; raises and drops the condition.

    Attributes:
        listed: The packs that a service was to get; empty if there is no list.
        failed: Names of those whose installation failed: that is told already, and so not that
            they are absent.
        moved: Packages of a service that are other than they were installed, a line each: a pack
            may have changed them while it was imported.
        conditions: Where the condition is raised and dropped.
    """

    lifecycle: Lifecycle
    bus: EventBus
    listed: Callable[[str], Listed]
    failed: Callable[[], Collection[str]]
    moved: Callable[[str], tuple[str, ...]]
    conditions: Conditions
    _known: dict[str, Loaded] = attrs.field(init=False, factory=dict)
    _words: str = attrs.field(init=False, default="")

    def heard(self, loaded: Iterable[Loaded]) -> None:
        """A worker says what its services have loaded: at its connection, and after each restart
        of a service.
        """
        for one in loaded:
            known = self._known.get(one.instance)
            # Of a start long ago the log may be gone when a worker comes back; we know it still.
            forgot = known and known.complete and not one.complete and known.started == one.started
            if known != one and not forgot:
                self._known[one.instance] = one
                told = events.PacksLoaded(
                    attempt=self.lifecycle.attempt,
                    instance=one.instance,
                    packs=self._whole(one).packs,
                )
                self.bus.emit(told)
        self.settle()

    def report(self) -> tuple[Loaded, ...]:
        """Every instance that told of its packs, in the order of the plan."""
        plan = self.lifecycle.record.plan
        order = [instance.id for instance in plan.instances] if plan else []
        known = sorted(
            self._known.values(),
            key=lambda one: order.index(one.instance) if one.instance in order else len(order),
        )
        return tuple(self._whole(one) for one in known)

    def settle(self) -> None:
        """Hold what is there against what was asked for."""
        missing = {one.instance: missed(one, self._listed(one.instance)) for one in self.report()}
        services = dict.fromkeys(self._service(instance) for instance in missing)
        told = {service: self.moved(service) for service in services}
        words = "; ".join(filter(None, (left_out_words(missing), moved_words(told))))
        if words == self._words:
            return
        self._words = words
        if words:
            self.conditions.raise_condition(ConditionKind.DEGRADED, CAUSE, words)
        else:
            self.conditions.drop_cause(ConditionKind.DEGRADED, CAUSE)

    def checks(self) -> tuple[Check, ...]:
        """Whether each instance has loaded enough of what it was to get, as far as it told."""
        found = []
        for one in self.report():
            listed = self.listed(self._service(one.instance))
            out = {pack.name: pack.reason for pack in missed(one, listed.names)}
            out |= dict.fromkeys(listed.names & set(self.failed()), "it was not installed")
            error = missing_too_much(one.instance, listed, out)
            if listed.names and one.complete:
                detail = error.summary if error else f"{len(listed.names) - len(out)} loaded"
                check = Check(
                    name=f"node packs of {one.instance}",
                    ok=error is None,
                    seconds=0.0,
                    detail=detail,
                    remedies=error.remedies if error else (),
                )
                found.append(check)
        return tuple(found)

    def begin_anew(self) -> None:
        """Everything is started again: nothing is known."""
        self._known.clear()
        self.settle()

    def _service(self, instance: str) -> str:
        return _service(self.lifecycle.record.plan, instance)

    def _listed(self, instance: str) -> frozenset[str]:
        return self.listed(self._service(instance)).names

    def _whole(self, loaded: Loaded) -> Loaded:
        return with_absent(loaded, self._listed(loaded.instance) - frozenset(self.failed()))


def _service(plan: BootPlan | None, instance: str) -> str:
    known = {one.id: one.service for one in plan.instances} if plan else {}
    return known.get(instance, instance)
