"""Which port each instance listens on, and whether two want the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs

from machine_lifecycle.errors import LifecycleError
from machine_lifecycle.model.catalogue import ServiceEntry
from machine_lifecycle.model.services import Instance, ServiceDefinition
from machine_lifecycle.model.settings import Settings
from machine_lifecycle.plan.errors import PortClash, PortRange, PortTaken

__all__ = ["check_ports", "port_of", "reachable_host"]

_HIGHEST = 65535


def reachable_host(listen: str) -> str:
    """The address at which a local client reaches something that listens on *listen*."""
    return {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(listen, listen)  # noqa: S104


def port_of(
    index: int, entry: ServiceEntry, definition: ServiceDefinition, settings: Settings
) -> int | None:
    """The port of instance *index*: base plus increment times index.

    A base in the settings that is not the default comes first, then the mapping's, then the
    definition's. An increment of 0 would give all instances one port; it counts as 1.
    """
    ports = definition.ports
    base = entry.base_port or (ports.base if ports else None)
    increment = entry.port_increment or (ports.increment if ports else 1)
    if ports and ports.setting and entry.name == definition.name:
        value = getattr(settings, ports.setting)
        default = getattr(attrs.fields(Settings), ports.setting).default
        base = value if value != default or entry.base_port is None else base
    return None if base is None else base + max(increment, 1) * index


def check_ports(
    instances: Sequence[Instance],
    variables: dict[str, str],
    settings: Settings,
    free_port: Callable[[str, int], bool] | None,
) -> list[LifecycleError]:
    """What is wrong with the ports.

    Args:
        instances: Every instance.
        variables: By service: the variable that moves its base port.
        settings: For the health port.
        free_port: Whether nobody listens there; ``None`` not to look.
    """
    errors: list[LifecycleError] = []
    health = "the health pages (MACHINE_HEALTH_PORT)"
    taken = {settings.health_port: health} if settings.health_port else {}
    for instance in instances:
        variable = variables.get(instance.service, "")
        if not instance.port:
            continue
        if instance.port > _HIGHEST:
            errors.append(PortRange(instance=instance.id, port=instance.port))
        elif instance.port in taken:
            errors.append(
                PortClash(
                    port=instance.port,
                    first=taken[instance.port],
                    second=instance.id,
                    variable=variable,
                )
            )
        elif free_port is not None and not free_port(instance.host, instance.port):
            errors.append(
                PortTaken(
                    host=instance.host,
                    port=instance.port,
                    wanted_by=instance.id,
                    variable=variable,
                )
            )
        taken.setdefault(instance.port, instance.id)
    return errors
