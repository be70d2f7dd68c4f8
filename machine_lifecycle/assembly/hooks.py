"""The observers and gates that the settings name."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from machine_lifecycle.assembly.errors import HookUnusable
from machine_lifecycle.lifecycle.events import EVENTS, Event
from machine_lifecycle.lifecycle.gates import GateDefinition, Gates
from machine_lifecycle.lifecycle.hooks import EventBus, Observer
from machine_lifecycle.model.offers import Offer
from machine_lifecycle.model.settings import Settings
from machine_lifecycle.observers.stream import EventStream
from machine_lifecycle.observers.webhook import Webhook
from machine_lifecycle.services.plugins import find_plugin

__all__ = ["hooked"]


@asynccontextmanager
async def hooked(
    settings: Settings,
    *,
    machine_id: str,
    bus: EventBus,
    gates: Gates,
    queue: Callable[[], str],
) -> AsyncIterator[None]:
    """Have the observers of the settings listen and place their gates.

    *queue* tells where the queue is, empty while that is not known.

    Raises:
        ServiceUnknown, ServiceBroken, PluginClash: A plug-in that is named can't be had.
        HookUnusable: One is not what it should be, or an unknown event is named.
    """
    observers = [_observer(name) for name in _words(settings.observers)]
    for name in _words(settings.gates):
        found, origin = find_plugin(name, offer=Offer.GATE)
        if not isinstance(found, GateDefinition):
            problem = f"is a {type(found).__name__}, not a GateDefinition"
            raise HookUnusable(variable="MACHINE_GATES", name=name, origin=origin, problem=problem)
        gates.add(found.point, found.gate, name=found.name or name, deadline=found.deadline)
    async with AsyncExitStack() as open_hooks:
        if settings.events_stream:
            stream = EventStream(machine_id, queue, settings.events_stream)
            observers.append(await open_hooks.enter_async_context(stream))
        if settings.webhook_url:
            hook = Webhook(
                settings.webhook_url, secret=settings.webhook_secret, kinds=_kinds(settings)
            )
            observers.append(await open_hooks.enter_async_context(hook))
        for observer in observers:
            bus.on(Event, observer)
        yield


def _observer(name: str) -> Observer[Event]:
    found, origin = find_plugin(name, offer=Offer.OBSERVER)
    made = found() if inspect.isclass(found) else found
    if not callable(made):
        problem = f"is a {type(made).__name__}, which can't be called with an event"
        raise HookUnusable(variable="MACHINE_OBSERVERS", name=name, origin=origin, problem=problem)
    observer: Observer[Event] = made
    return observer


def _kinds(settings: Settings) -> tuple[str, ...]:
    known = {event.kind for event in EVENTS}
    wanted = _words(settings.webhook_events)
    for word in wanted:
        if word not in known:
            problem = f"is no kind of event; there are {', '.join(sorted(known))}"
            raise HookUnusable(
                variable="MACHINE_WEBHOOK_EVENTS", name=word, origin="", problem=problem
            )
    return wanted


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())
