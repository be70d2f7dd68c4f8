"""``service-mapping.json``, in both of its shapes, to one normal form.

One level: ``workers.<type>`` carries everything, with its services in the list ``service``. Two
levels: ``workers.<type>.services`` names entries of ``services``. A file may hold both.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path

import attrs

from machine_lifecycle.config.document import Cursor, read_document
from machine_lifecycle.config.errors import MappingInvalid, raise_problems
from machine_lifecycle.config.process_limits import read_process_limits
from machine_lifecycle.model.catalogue import (
    NO_INSTALLER,
    JobRoute,
    ServiceEntry,
    ServiceMapping,
    WorkerEntry,
)
from machine_lifecycle.model.processes import EnvFile
from machine_lifecycle.model.services import Binding

__all__ = ["parse_mapping"]

_EXTERNAL = {"external", "external_api", "external_service"}
_INTERNAL = {"internal", "pm2_service", "daemon_service", "managed_service"}
_DAEMON_CLIENTS = {"direct_worker", "service_client", "daemon_client"}

# Both for people and for tools of others; nothing here follows from them.
_DESCRIPTIVE = frozenset(
    {
        "build_stage",
        "daemon_command",
        "daemon_dependency",
        "description",
        "health_endpoint",
        "installer_filename",
        "job_types_accepted",
        "scaling_strategy",
        "telemetry_logs",
    }
)
_TOP = frozenset(
    {
        "$schema",
        "connectors",
        "description",
        "machine_capabilities",
        "resource_bindings",
        "service_types",
        "services",
        "workers",
    }
)
_SERVICE = _DESCRIPTIVE | {
    "api_config",
    "connector",
    "env_files",
    "installer",
    "installer_config",
    "is_gpu_bound",
    "limits",
    "port",
    "port_increment",
    "ports",
    "required_env",
    "resource_binding",
    "service_instances_per_gpu",
    "service_instances_per_machine",
    "type",
}
_WORKER = _DESCRIPTIVE | {
    "is_gpu_bound",
    "job_service_required_map",
    "required_env",
    "resource_binding",
    "services",
    "type",
}
_ONE_LEVEL = _SERVICE | {"service"}
_HIGHEST_COUNT = 1024
_HIGHEST_PORT = 65535


def parse_mapping(text: str, environ: Mapping[str, str], source: str) -> ServiceMapping:
    """Read a service mapping.

    Args:
        text: The file's text.
        environ: Variables for ``${VAR}`` and ``${VAR:-default}``.
        source: The file's name, for messages.

    Raises:
        Problems: Everything wrong in it, each with JSON path, line and column.
    """
    document = read_document(text, environ, source, MappingInvalid)
    root = document.root
    workers: dict[str, WorkerEntry] = {}
    services: dict[str, ServiceEntry] = {}
    if root.value is not None or not document.errors:  # it is JSON
        root.warn_of_unknown(_TOP)
        listed = root.get("services")
        for name, cursor in listed.members() if listed else ():
            cursor.warn_of_unknown(_SERVICE)
            services[name] = _service(name, cursor)
        declared = root.get("workers")
        if declared is None:
            root.problem("has no `workers`", "List at least one worker type under `workers`")
        for name, cursor in declared.members() if declared else ():
            if cursor.get("service") is not None:
                workers[name] = _one_level(name, cursor, services)
            else:
                workers[name] = _two_level(name, cursor, services)
    raise_problems(source, document.errors)
    return ServiceMapping(
        workers=workers, services=services, source=source, warnings=tuple(document.warnings)
    )


def _service(name: str, cursor: Cursor) -> ServiceEntry:
    if not isinstance(cursor.value, dict):
        cursor.problem("must be an object", "Write `{…}`")
        return ServiceEntry(name=name)
    connector = cursor.get("connector")
    options: dict[str, str] = {}
    required = list(_texts(cursor, "required_env"))
    for member in (cursor.get("installer_config"), cursor.get("api_config")):
        texts, missing = member.table() if member else ({}, ())
        options.update(texts)
        required += missing
    per_gpu = _number(cursor, "service_instances_per_gpu", 1, _HIGHEST_COUNT)
    return ServiceEntry(
        name=name,
        connector=connector.name() if connector else "",
        installer=_installer(cursor),
        external=_external(cursor),
        binding=_binding(cursor),
        per_gpu=per_gpu or 1,
        per_machine=_number(cursor, "service_instances_per_machine", 1, _HIGHEST_COUNT),
        base_port=_base_port(cursor),
        port_increment=_number(cursor, "port_increment", 0, _HIGHEST_PORT),
        required_env=tuple(dict.fromkeys(required)),
        options=options,
        limits=read_process_limits(cursor.get("limits")),
        env_files=tuple(_env_file(text) for text in _texts(cursor, "env_files")),
    )


def _env_file(text: str) -> EnvFile:
    """A path; as in systemd's units, a dash before it says that it need not be there."""
    path = Path(text.removeprefix("-")).expanduser()
    return EnvFile(path, required=not text.startswith("-"))


def _installer(cursor: Cursor) -> str:
    """Silent: the definition's own. Null: nothing is installed."""
    if "installer" in cursor.value and cursor.value["installer"] is None:
        return NO_INSTALLER
    member = cursor.get("installer")
    if member is not None and not isinstance(member.value, str):
        member.problem("must be the name of an installer, or null")
        return ""
    return member.name() if member else ""


def _external(cursor: Cursor) -> bool:
    kind = cursor.get("type")
    if kind is None:
        return False
    word = kind.name()
    if word and word not in _EXTERNAL | _INTERNAL:
        known = ", ".join(sorted(_EXTERNAL | _INTERNAL))
        kind.problem(f"unknown type `{word}`", f"Write one of {known}")
    return word in _EXTERNAL


def _binding(cursor: Cursor) -> Binding | None:
    member = cursor.get("resource_binding")
    if member is None:
        return None
    word = member.name()
    known = {binding.value: binding for binding in Binding}
    if word and word not in known:
        member.problem(f"unknown binding `{word}`", f"Write one of {', '.join(known)}")
    return known.get(word)


def _base_port(cursor: Cursor) -> int | None:
    member = cursor.get("ports") or cursor.get("port")
    if member is None:
        return None
    items = (member,) if isinstance(member.value, int) else member.items()
    ports = [item.number(1, _HIGHEST_PORT) for item in items]
    return ports[0] if ports else None


def _number(cursor: Cursor, key: str, low: int, high: int) -> int | None:
    member = cursor.get(key)
    return member.number(low, high) if member else None


def _texts(cursor: Cursor, key: str) -> tuple[str, ...]:
    member = cursor.get(key)
    return member.texts() if member else ()


def _flag(cursor: Cursor, key: str) -> bool | None:
    member = cursor.get(key)
    return member.flag() if member else None


def _one_level(name: str, cursor: Cursor, services: dict[str, ServiceEntry]) -> WorkerEntry:
    cursor.warn_of_unknown(_ONE_LEVEL)
    listed = cursor.get("service")
    # The worker carries what its services share; `type` stands with each of them.
    shared = _service(name, cursor)
    names: list[str] = []
    routes: list[JobRoute] = []
    for item in listed.items() if listed else ():
        if not isinstance(item.value, dict):
            item.problem("must be an object", "Write `{…}`")
            continue
        item.warn_of_unknown(frozenset({"capability", "connector", "description", "type"}))
        asked = _texts(item, "capability")
        connector = item.get("connector")
        if connector is None:
            item.problem("has no `connector`", 'Write "connector": "…"')
        if not asked:
            item.problem("has no `capability`", f'Write "capability": "{name}"')
            continue
        service = name if not names else f"{name}-{asked[0]}"
        if service in services:
            item.problem(f"a service named `{service}` is there already")
        silent_type = item.get("type") is None
        external = shared.installer in {"", NO_INSTALLER} if silent_type else _external(item)
        services[service] = attrs.evolve(
            shared,
            name=service,
            connector=connector.name() if connector else "",
            installer=shared.installer if not external else NO_INSTALLER,
            external=external,
        )
        names.append(service)
        routes += [JobRoute(asks=one, service=service) for one in asked]
    return WorkerEntry(
        name=name,
        services=tuple(names),
        routes=tuple(routes),
        gpu_bound=_flag(cursor, "is_gpu_bound"),
        required_env=shared.required_env,
    )


def _two_level(name: str, cursor: Cursor, services: Mapping[str, ServiceEntry]) -> WorkerEntry:
    if not isinstance(cursor.value, dict):
        cursor.problem("must be an object", "Write `{…}`")
        return WorkerEntry(name=name, services=(), routes=())
    cursor.warn_of_unknown(_WORKER)
    kind = cursor.get("type")
    if kind and kind.name() not in _DAEMON_CLIENTS:
        kind.problem(f"unknown type `{kind.text()}`", f"Write one of {sorted(_DAEMON_CLIENTS)}")
    named = cursor.get("services")
    if named is None:
        cursor.problem("has no `services`", 'Write "services": ["…"]')
    names: list[str] = []
    for item in named.items() if named else ():
        service = item.name()
        if service and service not in services:
            _unknown_service(item, service, services)
        elif service in names:
            item.problem(f"`{service}` is listed twice")
        names.append(service)
    return WorkerEntry(
        name=name,
        services=tuple(names),
        routes=_routes(cursor, names),
        gpu_bound=_flag(cursor, "is_gpu_bound"),
        required_env=_texts(cursor, "required_env"),
    )


def _unknown_service(item: Cursor, service: str, services: Mapping[str, ServiceEntry]) -> None:
    close = difflib.get_close_matches(service, sorted(services), n=1)
    hint = f"Did you mean `{close[0]}`?" if close else f"Add `{service}` under `services`"
    item.problem(f"`services` has no `{service}`", hint)


def _routes(cursor: Cursor, names: list[str]) -> tuple[JobRoute, ...]:
    listed = cursor.get("job_service_required_map")
    if listed is None:
        # Without a map, each service does the jobs that ask for it by its name.
        return tuple(JobRoute(asks=name, service=name) for name in names)
    routes: dict[str, JobRoute] = {}
    for item in listed.items():
        asked, service = item.get("job_service_required"), item.get("worker_service")
        if asked is None or service is None:
            item.problem("needs `job_service_required` and `worker_service`")
            continue
        route = JobRoute(asks=asked.name(), service=service.name())
        if route.service and route.service not in names:
            service.problem(f"`{route.service}` is not among this worker's services")
        if route.asks in routes:
            asked.problem(f"`{route.asks}` is routed twice")
        routes[route.asks] = route
    return tuple(routes.values())
