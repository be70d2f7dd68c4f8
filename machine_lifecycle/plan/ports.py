"""Which port each instance listens on, and whether two want the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import attrs

from machine_lifecycle.config.errors import SettingInvalid
from machine_lifecycle.errors import LifecycleError
from machine_lifecycle.model.catalogue import ServiceEntry
from machine_lifecycle.model.services import Instance, ServiceDefinition
from machine_lifecycle.model.settings import Settings, setting_info
from machine_lifecycle.plan.errors import PortClash, PortRange, PortTaken

__all__ = ["base_port_variable", "check_ports", "port_of", "reachable_host"]

_HIGHEST = 65535


def reachable_host(listen: str) -> str:
    """The address at which a local client reaches something that listens on *listen*."""
    return {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(listen, listen)  # noqa: S104


def base_port_variable(definition: ServiceDefinition) -> str:
    """The variable that moves a service's base port: ``SPEECH_BASE_PORT`` for ``speech``, unless
    one of our settings does.
    """
    setting = definition.ports.setting if definition.ports else ""
    if setting:
        return next(info.env[0] for info in setting_info() if info.field == setting)
    name = "".join(letter if letter.isalnum() else "_" for letter in definition.name)
    return f"{name.upper()}_BASE_PORT"


def port_of(
    index: int,
    entry: ServiceEntry,
    definition: ServiceDefinition,
    settings: Settings,
    environ: Mapping[str, str],
) -> int | None:
    """The port of instance *index*: base plus increment times index.

    A base in the settings that is not the default comes first, or the service's own variable; then
    the mapping's, then the definition's. An increment of 0 would give all instances one port; it
    counts as 1.

    Raises:
        SettingInvalid: The variable holds no port.
    """
    ports = definition.ports
    base = entry.base_port or (ports.base if ports else None)
    increment = entry.port_increment or (ports.increment if ports else 1)
    if ports and ports.setting and entry.name == definition.name:
        value = getattr(settings, ports.setting)
        default = getattr(attrs.fields(Settings), ports.setting).default
        base = value if value != default or entry.base_port is None else base
    elif ports:
        base = _named_base(base_port_variable(definition), environ) or base
    return None if base is None else base + max(increment, 1) * index


def _named_base(variable: str, environ: Mapping[str, str]) -> int | None:
    text = environ.get(variable, "").strip()
    if not text:
        return None
    if text.isascii() and text.isdigit() and 0 < int(text) <= _HIGHEST:
        return int(text)
    raise SettingInvalid(
        variable=variable,
        written="the environment",
        value=text,
        problem=f"must be a port, 1 to {_HIGHEST}",
        example="9100",
    )


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
