"""What is asked for, what there is, to a boot plan. Pure."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import attrs

from machine_lifecycle.config.errors import SettingInvalid, WorkersInvalid
from machine_lifecycle.config.settings import secret_values, settings_env
from machine_lifecycle.errors import LifecycleError, Problems
from machine_lifecycle.model.bundle import WorkerBundle
from machine_lifecycle.model.catalogue import (
    JobRoute,
    ServiceEntry,
    ServiceMapping,
    WorkerEntry,
    WorkerRequest,
)
from machine_lifecycle.model.hardware import Gpu, Hardware
from machine_lifecycle.model.paths import Paths
from machine_lifecycle.model.plan import BootPlan, InstallPlan, WorkerPlan
from machine_lifecycle.model.processes import ProcessSpec
from machine_lifecycle.model.services import Binding, Instance, ServiceDefinition
from machine_lifecycle.model.settings import Settings
from machine_lifecycle.plan.allotment import Driven, allot
from machine_lifecycle.plan.errors import VariableMissing, WorkerUnknown, WrongBinding
from machine_lifecycle.plan.manifest import digest_of
from machine_lifecycle.plan.ports import base_port_variable, check_ports, port_of
from machine_lifecycle.plan.processes import service_process, worker_process

__all__ = ["Lookup", "make_plan"]

Lookup = Callable[[ServiceEntry], ServiceDefinition]
"""Finds the definition behind an entry of the service mapping."""


@attrs.define(kw_only=True)
class _Draft:
    """A plan in the making: what is decided so far, and what is wrong with it."""

    mapping: ServiceMapping
    lookup: Lookup
    hardware: Hardware
    settings: Settings
    paths: Paths
    machine_id: str
    environ: Mapping[str, str]
    errors: list[LifecycleError] = attrs.field(factory=list)
    installs: dict[str, InstallPlan] = attrs.field(factory=dict)
    instances: list[Instance] = attrs.field(factory=list)
    definitions: dict[str, ServiceDefinition] = attrs.field(factory=dict)
    bundle: WorkerBundle | None
    entries: dict[str, ServiceEntry] = attrs.field(factory=dict)
    workers: list[tuple[WorkerPlan, tuple[Driven, ...]]] = attrs.field(factory=list)

    def add(self, request: WorkerRequest) -> None:
        """Decide one item of WORKERS."""
        try:
            worker, services = self._resolve(request)
            gpus = allot(request, services, self.hardware, self.settings)
        except LifecycleError as error:
            self.errors += error.parts()
            return
        self._require(worker, services)
        for one in services:
            self._install(one)
        for index, gpu in enumerate(gpus):
            instances = [self._instance(one, gpu) for one in services if one.definition.process]
            self._worker(worker, services, index, gpu, [one for one in instances if one])

    def _resolve(self, request: WorkerRequest) -> tuple[WorkerEntry, tuple[Driven, ...]]:
        worker = self.mapping.workers.get(request.worker)
        if worker is None:
            return self._unmapped(request.worker)
        entries = [self.mapping.services[name] for name in worker.services]
        errors: list[LifecycleError] = []
        driven: list[Driven] = []
        for entry in entries:
            try:
                driven.append(Driven.of(entry, self.lookup(entry), worker))
            except LifecycleError as error:
                error.where = f"{self.mapping.source}, worker {worker.name}, service {entry.name}"
                errors += error.parts()
        if errors:
            raise Problems(subject=f"worker {worker.name}", errors=tuple(errors))
        return worker, tuple(driven)

    def _unmapped(self, name: str) -> tuple[WorkerEntry, tuple[Driven, ...]]:
        """A service that is asked for by itself: a reference, or one of a plug-in."""
        try:
            definition = self.lookup(ServiceEntry(name=name))
        except LifecycleError as error:
            if told := _misspelt(name, self.mapping, error):
                raise told from error
            raise
        entry = ServiceEntry(name=definition.name)
        routes = tuple(
            JobRoute(asks=one, service=definition.name) for one in definition.capabilities
        )
        worker = WorkerEntry(name=definition.name, services=(definition.name,), routes=routes)
        return worker, (Driven.of(entry, definition, worker),)

    def _require(self, worker: WorkerEntry, services: Sequence[Driven]) -> None:
        present = _variables(self.environ, self.settings)
        wanted = dict.fromkeys(worker.required_env, f"worker {worker.name}")
        for one in services:
            names = (*one.definition.required_env, *one.entry.required_env)
            wanted = dict.fromkeys(names, f"service {one.entry.name}") | wanted
        self.errors += [
            VariableMissing(variable=name, needed_by=who)
            for name, who in wanted.items()
            if not present.get(name, "").strip()
        ]

    def _secrets(self, driven: Sequence[Driven]) -> tuple[str, ...]:
        """Names of the secrets that are set. One that must be is in ``required_env`` too."""
        present = _variables(self.environ, self.settings)
        offered = (name for one in driven for name in one.definition.secrets)
        # The queue's address may be made later, by a Redis of the machine's own.
        return tuple(
            dict.fromkeys(["HUB_REDIS_URL", *(name for name in offered if present.get(name))])
        )

    def _install(self, one: Driven) -> None:
        if one.definition.process is None or one.entry.name in self.installs:
            return
        prefix = f"{one.definition.name.upper().replace('-', '_')}_"
        env = settings_env(self.settings, defaults=True)
        own = {name: value for name, value in env.items() if name.startswith(prefix)}
        self.installs[one.entry.name] = InstallPlan(
            service=one.entry.name,
            installer=one.definition.installer,
            options={**one.entry.options, **own},
        )

    def _instance(self, one: Driven, gpu: Gpu | None) -> Instance | None:
        name = one.entry.name
        index = sum(instance.service == name for instance in self.instances)
        bound = one.binding in {Binding.GPU, Binding.MOCK_GPU}
        own_gpu = gpu if bound else None
        try:
            port = port_of(index, one.entry, one.definition, self.settings, self.environ)
        except SettingInvalid as error:
            if not index:
                self.errors.append(error)
            return None
        if port is None:
            if not index:
                self.errors.append(WrongBinding(service=name, worker=name))
            return None
        identity = f"{name}-{index}"
        if own_gpu is not None:
            before = sum(
                instance.service == name
                and instance.gpu is not None
                and instance.gpu.index == own_gpu.index
                for instance in self.instances
            )
            identity = f"{name}-gpu{own_gpu.index}" + (f"-{before}" if before else "")
        instance = Instance(
            id=identity,
            service=name,
            index=index,
            gpu=own_gpu,
            host=self.settings.comfyui_listen,
            port=port,
            paths=self.paths,
            home=self.paths.service(name),
            data=self.paths.instance(identity),
            options=dict(one.entry.options),
            settings=settings_env(self.settings, defaults=True),
        )
        self.instances.append(instance)
        self.definitions[identity] = one.definition
        self.entries[identity] = one.entry
        return instance

    def _worker(
        self,
        worker: WorkerEntry,
        services: tuple[Driven, ...],
        index: int,
        gpu: Gpu | None,
        instances: Sequence[Instance],
    ) -> None:
        plan = WorkerPlan(
            id=f"{self.machine_id}-worker-{worker.name}-{index}",
            process=f"redis-worker-{worker.name}-{index}",
            type=worker.name,
            index=index,
            instances=tuple(instance.id for instance in instances),
            capabilities={route.asks: route.service for route in worker.routes},
            connectors={one.entry.name: one.definition.connector for one in services},
            gpu=gpu.index if gpu else None,
        )
        self.workers.append((plan, services))

    def processes(self) -> tuple[ProcessSpec, ...]:
        """Every process: services first, then workers, each in the order asked for."""
        # One of several may be lost: the machine goes on, degraded, while enough are healthy.
        floor = max(1, self.settings.min_healthy)
        per_service = Counter(instance.service for instance in self.instances)
        services = [
            service_process(
                instance,
                self.definitions[instance.id],
                essential=per_service[instance.service] <= floor,
                entry=self.entries[instance.id],
            )
            for instance in self.instances
        ]
        by_id = {instance.id: instance for instance in self.instances}
        per_type = Counter(worker.type for worker, _ in self.workers)
        workers = [
            worker_process(
                worker,
                [(by_id[name], self.definitions[name]) for name in worker.instances],
                self._secrets(driven),
                hardware=self.hardware,
                settings=self.settings,
                paths=self.paths,
                machine_id=self.machine_id,
                essential=per_type[worker.type] <= floor,
                bundle=self.bundle,
            )
            for worker, driven in self.workers
        ]
        return (*services, *workers)


def _misspelt(
    name: str, mapping: ServiceMapping, error: LifecycleError
) -> WorkersInvalid | WorkerUnknown | None:
    """What is wrong with an item of WORKERS for which no service was found: its count is none, or
    there is no such type. ``None`` if the error says it: of a reference, say.
    """
    kind, colon, count = name.partition(":")
    if kind in mapping.workers and isinstance(error.__cause__, ModuleNotFoundError):
        problem = f"`{name}`: the count `{count}` is neither a number from 1 nor `auto`"
        return WorkersInvalid(item=name, position=0, problem=problem, example=f"{kind}:1")
    if colon or error.code != "service-unknown":
        return None
    known = tuple(mapping.workers)
    close = difflib.get_close_matches(name, known, n=1)
    return WorkerUnknown(
        name=name, known=known, close=close[0] if close else "", source=mapping.source
    )


def _variables(environ: Mapping[str, str], settings: Settings) -> dict[str, str]:
    known = settings_env(settings, defaults=True) | secret_values(settings)
    return {**environ, **known}


def make_plan(
    *,
    requests: Sequence[WorkerRequest],
    mapping: ServiceMapping,
    lookup: Lookup,
    hardware: Hardware,
    settings: Settings,
    paths: Paths,
    machine_id: str,
    free_port: Callable[[str, int], bool] | None = None,
    environ: Mapping[str, str],
    bundle: WorkerBundle | None = None,
) -> BootPlan:
    """Decide everything that will run. Equal inputs give equal plans.

    Args:
        requests: ``WORKERS``, parsed.
        mapping: The service mapping.
        lookup: Finds definitions; ``Registry.lookup``.
        hardware: As detected.
        settings: The settings.
        paths: The machine's folders.
        machine_id: Its id.
        free_port: Whether nobody listens at an address and port; ``None`` not to look (what runs
            from an earlier orchestrator of ours listens there, too).
        environ: Variables, for those that a worker requires. Their values go nowhere.
        bundle: What workers can load beside what is installed.

    Raises:
        Problems: Everything that stands against the plan.
    """
    draft = _Draft(
        mapping=mapping,
        lookup=lookup,
        hardware=hardware,
        settings=settings,
        paths=paths,
        machine_id=machine_id,
        environ=environ,
        bundle=bundle,
    )
    for request in requests:
        draft.add(request)
    variables = {
        instance.service: base_port_variable(draft.definitions[instance.id])
        for instance in draft.instances
    }
    port_errors: list[LifecycleError] = check_ports(draft.instances, variables, settings, free_port)
    if draft.errors or port_errors:
        raise Problems(subject="The plan", errors=(*draft.errors, *port_errors))
    plan = BootPlan(
        machine_id=machine_id,
        hardware=hardware,
        installs=tuple(draft.installs.values()),
        instances=tuple(draft.instances),
        processes=draft.processes(),
        workers=tuple(worker for worker, _ in draft.workers),
        bundle=bundle,
    )
    return attrs.evolve(plan, digest=digest_of(plan))
