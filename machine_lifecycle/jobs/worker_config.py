"""What a worker process is told by its environment."""

from __future__ import annotations

import importlib
import json
import os
import platform
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import attrs

from machine_lifecycle.errors import LifecycleError
from machine_lifecycle.jobs.advertised import listed, said_of_workers, with_said
from machine_lifecycle.jobs.worker_errors import ConnectorBroken, WorkerSettingWrong
from machine_lifecycle.model.ports import Connector
from machine_lifecycle.model.redis_url import RedisUrl
from machine_lifecycle.model.warming import VARIABLE, WarmUp, warm_ups_from

__all__ = ["Route", "WorkerConfig", "load_connector"]


@attrs.frozen(kw_only=True)
class Route:
    """One thing that jobs may ask of the worker.

    Attributes:
        asks: What jobs ask for.
        service: Which service does it.
        connector: ``module:attribute`` of the class that drives it.
    """

    asks: str
    service: str
    connector: str


@attrs.frozen(kw_only=True)
class WorkerConfig:
    """One worker process. Times are seconds.

    Attributes:
        worker_id: Unique in the fleet.
        process: Name of its process.
        control_socket: The orchestrator's socket; ``None`` for a worker on its own, which takes
            jobs at once.
        beat: Between two signs of life.
        lease: After so long without one its job is given to others.
        poll: Between two looks of the whole fleet at what hints may have missed; each of N workers
            looks every N times that.
        job_timeout: Seconds that a job may take which names no time of its own, and
        job_timeouts: likewise for jobs that ask for one capability, by that.
        outbox: Folder for results that Redis can't take; ``None``: they are kept in memory alone.
        concurrency: Jobs that each service does at a time; 0 for what its connector says.
        retry_wait: Before a failed job is tried again; doubles at each further try.
        warm_ups: What each service runs before it takes jobs, by its name.
        warm: Folder where it is written down which runs of services are warm.
        said: What its operator says of it, for jobs to require.
        output_store: Where what jobs make is kept; empty: in Redis, if it is small.
        environ: What connectors read their own settings from.
    """

    worker_id: str
    machine_id: str
    process: str
    redis_url: str = attrs.field(repr=False)
    routes: tuple[Route, ...]
    control_socket: Path | None = None
    gpu_memory_gb: float = 0.0
    gpu_model: str = ""
    ram_gb: float = 0.0
    job_timeout: float = 1800.0
    job_timeouts: Mapping[str, float] = attrs.field(factory=dict)
    beat: float = 10.0
    lease: float = 20.0
    poll: float = 2.0
    retry_wait: float = 1.0
    outbox: Path | None = None
    concurrency: int = 0
    warm_ups: Mapping[str, WarmUp] = attrs.field(factory=dict)
    warm: Path | None = None
    output_store: str = ""
    said: Mapping[str, Any] = attrs.field(factory=dict)
    customer_access: Mapping[str, Any] = attrs.field(factory=dict)
    version: str = ""
    environ: Mapping[str, str] = attrs.field(factory=dict, repr=False)

    @property
    def lease_ms(self) -> int:
        """How long a job stays ours without a sign of life, in milliseconds."""
        return round(self.lease * 1000)

    @property
    def services(self) -> dict[str, str]:
        """Service name to the reference of its connector."""
        return {route.service: route.connector for route in self.routes}

    @property
    def redis_cli(self) -> str:
        """The call of ``redis-cli`` that reaches the queue."""
        return RedisUrl.parse(self.redis_url).cli

    def timeout_of(self, asked: str) -> float:
        """Seconds that a job may take that asks for this and names no time of its own."""
        return self.job_timeouts.get(asked, self.job_timeout)

    @classmethod
    def from_env(
        cls, environ: Mapping[str, str], *, index: int = 0, version: str = ""
    ) -> WorkerConfig:
        """Read it.

        Raises:
            WorkerSettingWrong: A variable is missing, or says what can't be used.
        """
        redis_url = environ.get("HUB_REDIS_URL", "")
        if not redis_url:
            raise WorkerSettingWrong(
                name="HUB_REDIS_URL", reason="is not set", example="redis://127.0.0.1:6379"
            )
        machine_id = environ.get("MACHINE_ID") or platform.node() or "machine"
        kind = environ.get("CONNECTORS") or "worker"
        socket = environ.get("MACHINE_CONTROL_SOCKET", "")
        beat = min(_number(environ, "WORKER_HEARTBEAT_INTERVAL_MS", 30_000) / 1000, 10.0)
        routes = _routes(environ.get("WORKER_ROUTES", ""))
        worker_id = environ.get("WORKER_ID") or f"{machine_id}-worker-{kind}-{index}"
        outbox = environ.get("WORKER_OUTBOX", "")
        return cls(
            worker_id=worker_id,
            machine_id=machine_id,
            process=environ.get("WORKER_PROCESS") or f"redis-worker-{kind}-{index}",
            redis_url=redis_url,
            routes=routes,
            control_socket=Path(socket) if socket else None,
            gpu_memory_gb=_number(environ, "WORKER_GPU_MEMORY_GB", 0),
            gpu_model=environ.get("WORKER_GPU_MODEL", ""),
            ram_gb=_number(environ, "WORKER_RAM_GB", 0),
            job_timeout=60 * _number(environ, "WORKER_JOB_TIMEOUT_MINUTES", 30),
            job_timeouts=_timeouts(environ, {route.asks for route in routes}),
            beat=beat,
            lease=max(2 * beat, 1.0),
            poll=_number(environ, "WORKER_POLL_INTERVAL_MS", 2_000) / 1000,
            retry_wait=_number(environ, "WORKER_RETRY_BACKOFF_MS", 1_000) / 1000,
            outbox=_folder(Path(outbox), worker_id)
            if outbox
            else _beside(socket, "outbox", environ.get("WORKER_ID", "")),
            warm_ups=_warm_ups(environ.get(VARIABLE, "")),
            warm=_beside(socket, "warm", environ.get("WORKER_ID", "")),
            output_store=environ.get("WORKER_OUTPUT_STORE", ""),
            concurrency=int(_number(environ, "WORKER_MAX_CONCURRENT_JOBS", 0)),
            said=said_of_workers(environ),
            customer_access={
                "isolation": environ.get("WORKER_CUSTOMER_ISOLATION") or "loose",
                "allowed_customers": listed(environ.get("WORKER_ALLOWED_CUSTOMERS", "")),
                "denied_customers": listed(environ.get("WORKER_DENIED_CUSTOMERS", "")),
                "max_concurrent_customers": 10,
            },
            version=version,
            environ=environ,
        )

    def capabilities(
        self, services: Mapping[str, Mapping[str, Any]], *, concurrent: int = 1
    ) -> dict[str, Any]:
        """What the worker advertises.

        Args:
            concurrent: How many jobs it does at a time.
            services: What each service that answered proved, by its name. What is asked of a
                service that is not among them is not offered.
        """
        asks = [route.asks for route in self.routes if route.service in services]
        models: dict[str, list[str]] = {}
        for route in self.routes:
            proved = services.get(route.service, {}).get("models")
            if proved:
                models[route.asks] = _names(proved)
        known = {
            **_nodes(services.values()),
            "worker_id": self.worker_id,
            "machine_id": self.machine_id,
            "services": asks,
            "job_service_required_map": asks,
            "hardware": {
                "ram_gb": self.ram_gb,
                "gpu_memory_gb": self.gpu_memory_gb,
                "gpu_model": self.gpu_model or "none",
                "cpu_cores": os.cpu_count() or 1,
            },
            "models": models,
            "customer_access": dict(self.customer_access),
            "performance": {
                "concurrent_jobs": concurrent,
                "quality_levels": ["fast", "balanced", "quality"],
                "max_processing_time_minutes": self.job_timeout / 60,
            },
            "metadata": {
                "version": self.version,
                "python_version": platform.python_version(),
                "platform": platform.system().lower(),
                "arch": platform.machine(),
            },
        }
        return with_said(known, self.said)


_METHODS = ("run", "probe", "cancel", "capabilities", "__aenter__", "__aexit__")


def load_connector(reference: str, environ: Mapping[str, str]) -> Connector:
    """Import a connector's class and make the connector from the environment.

    Raises:
        ConnectorBroken: It can't be imported, or is no connector.
    """
    module, _, attribute = reference.partition(":")
    try:
        made = getattr(importlib.import_module(module), attribute).from_env(environ)
    except LifecycleError:
        raise
    except Exception as error:  # a stranger's code: it may raise anything
        plain = isinstance(error, ImportError | AttributeError | ValueError)
        reason = str(error) if plain else f"{type(error).__name__}: {error}"
        raise ConnectorBroken(reference=reference, reason=reason) from error
    lacks = [f"{name}()" for name in _METHODS if not callable(getattr(made, name, None))]
    if lacks:
        raise ConnectorBroken(reference=reference, reason=f"it has no {', '.join(lacks)}")
    jobs = getattr(made, "max_concurrent_jobs", 1)
    if not isinstance(jobs, int) or jobs < 1:
        reason = f"its max_concurrent_jobs is {jobs!r}, and must be a number from 1 on"
        raise ConnectorBroken(reference=reference, reason=reason)
    connector: Connector = made
    return connector


def _warm_ups(text: str) -> dict[str, WarmUp]:
    try:
        return warm_ups_from(text)
    except ValueError as error:
        raise WorkerSettingWrong(
            name=VARIABLE,
            reason=f"can't be read: {error}",
            example='{"comfyui":{"file":"/graph.json","timeout":300}}',
        ) from error


def _beside(socket: str, folder: str, worker_id: str) -> Path | None:
    """Beside the machine's socket: that folder is its own, on a local disk, and outlives it."""
    if not socket or not worker_id:
        return None
    return _folder(Path(socket).parent / folder, worker_id)


def _folder(parent: Path, worker_id: str) -> Path:
    """A worker's own."""
    return parent / worker_id.replace("/", "_")


def _routes(text: str) -> tuple[Route, ...]:
    example = '[{"asks":"simulation","service":"simulation","connector":"module:Class"}]'
    try:
        routes = tuple(Route(**entry) for entry in json.loads(text or "[]"))
    except (ValueError, TypeError) as error:
        raise WorkerSettingWrong(
            name="WORKER_ROUTES", reason=f"can't be read: {error}", example=example
        ) from error
    if not routes:
        raise WorkerSettingWrong(name="WORKER_ROUTES", reason="names no route", example=example)
    return routes


def _nodes(services: Iterable[Mapping[str, Any]]) -> dict[str, list[str]]:
    """What services that run graphs of nodes have for them, so that jobs may require it.

    Lists of node packs in use call those ``custom_nodes``.
    """
    telling = [facts for facts in services if "node_packs" in facts]
    if not telling:
        return {}
    packs, classes = (
        sorted({str(one) for facts in telling for one in facts.get(key, ())})
        for key in ("node_packs", "node_classes")
    )
    return {"node_packs": packs, "custom_nodes": packs, "node_classes": classes}


def _names(proved: object) -> list[str]:
    """Names of models, from a list or from lists by category."""
    if isinstance(proved, Mapping):
        return sorted({str(name) for group in proved.values() for name in _names(group)})
    if isinstance(proved, list | tuple | set | frozenset):
        return [str(name) for name in proved]
    return [str(proved)]


def _number(environ: Mapping[str, str], name: str, default: float) -> float:
    text = environ.get(name, "")
    try:
        return float(text) if text else float(default)
    except ValueError as error:
        raise WorkerSettingWrong(
            name=name, reason=f"is no number: {text!r}", example=f"{default:g}"
        ) from error


def _timeouts(environ: Mapping[str, str], asked: Iterable[str]) -> dict[str, float]:
    found = {}
    for asks in asked:
        name = re.sub(r"\W", "_", asks).upper() + "_JOB_TIMEOUT_MINUTES"
        if environ.get(name):
            minutes = _number(environ, name, 30)
            if not minutes > 0:
                raise WorkerSettingWrong(name=name, reason="is not above zero", example="30")
            found[asks] = 60 * minutes
    return found
