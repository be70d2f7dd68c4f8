"""A process manifest read back: what a machine was meant to run, as health pages need it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import attrs

from machine_lifecycle.model.hardware import Gpu, GpuSource, Hardware
from machine_lifecycle.model.processes import HttpReady, Readiness, Role, TcpReady, WebSocketReady
from machine_lifecycle.plan.errors import ManifestUnusable

__all__ = ["Outline", "OutlineProcess", "OutlineWorker", "read_outline"]

_VERSION = 1


@attrs.frozen(kw_only=True)
class OutlineProcess:
    """One process of a manifest.

    Attributes:
        probes: Those of its readiness conditions that can be asked from outside; where there is
            none and it has a port, that the port takes a connection.
        log: Its log file, or ``None`` where that is the usual one.
    """

    name: str
    role: Role
    host: str
    port: int | None
    gpu: int | None
    essential: bool
    probes: tuple[Readiness, ...]
    log: Path | None


@attrs.frozen(kw_only=True)
class OutlineWorker:
    """One worker of a manifest: its id in the fleet and the name of its process."""

    id: str
    process: str
    type: str
    gpu: int | None
    capabilities: tuple[str, ...]


@attrs.frozen(kw_only=True)
class Outline:
    """What a manifest says."""

    machine_id: str
    hardware: Hardware
    processes: tuple[OutlineProcess, ...]
    workers: tuple[OutlineWorker, ...]


def read_outline(path: Path) -> Outline:
    """Read a manifest.

    Raises:
        ManifestUnusable: It is not there, or is no manifest of this version.
    """
    try:
        return _outline(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise ManifestUnusable(path=path, reason=error.strerror or str(error)) from error
    except KeyError as error:
        raise ManifestUnusable(path=path, reason=f"it has no {error.args[0]!r}") from error
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ManifestUnusable(path=path, reason=str(error)) from error


def _outline(data: dict[str, Any]) -> Outline:
    if data["version"] != _VERSION:
        raise ValueError(f"version {data['version']!r} is not {_VERSION}")
    return Outline(
        machine_id=str(data["machine_id"]),
        hardware=_hardware(data["hardware"]),
        processes=tuple(_process(one) for one in data["processes"]),
        workers=tuple(_worker(one) for one in data["workers"]),
    )


def _hardware(data: dict[str, Any]) -> Hardware:
    return Hardware(
        gpus=tuple(Gpu(**one) for one in data["gpus"]),
        source=GpuSource(data["source"]),
        cpus=data["cpus"],
        memory_mib=data["memory_mib"],
        driver=data["driver"],
        notes=tuple(data["notes"]),
    )


def _process(data: dict[str, Any]) -> OutlineProcess:
    return OutlineProcess(
        name=str(data["name"]),
        role=Role(data["role"]),
        host=str(data["host"]),
        port=data["port"],
        gpu=data["gpu"],
        essential=bool(data["essential"]),
        probes=_probes(data),
        log=Path(data["log"]) if data["log"] else None,
    )


def _probes(data: dict[str, Any]) -> tuple[Readiness, ...]:
    found = tuple(probe for one in data["readiness"] if (probe := _probe(one)))
    return found or ((TcpReady(),) if data["port"] else ())


def _probe(data: dict[str, Any]) -> Readiness | None:
    match data["kind"]:
        case "HttpReady":
            return HttpReady(path=data["path"])
        case "WebSocketReady":
            return WebSocketReady(path=data["path"])
        case "TcpReady":
            return TcpReady()
    return None  # told by the process itself, to whoever spawned it


def _worker(data: dict[str, Any]) -> OutlineWorker:
    return OutlineWorker(
        id=str(data["id"]),
        process=str(data["process"]),
        type=str(data["type"]),
        gpu=data["gpu"],
        capabilities=tuple(data["capabilities"]),
    )
