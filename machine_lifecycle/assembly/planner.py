"""Reads what the planner needs and makes the plan."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from importlib import resources

import attrs

from machine_lifecycle.assembly.errors import MappingUnreadable
from machine_lifecycle.assembly.warming import check_warm_ups
from machine_lifecycle.config.mapping import parse_mapping
from machine_lifecycle.config.workers import parse_workers
from machine_lifecycle.errors import LifecycleError, Problems
from machine_lifecycle.model.bundle import WorkerBundle
from machine_lifecycle.model.catalogue import ServiceEntry, ServiceMapping
from machine_lifecycle.model.hardware import Hardware
from machine_lifecycle.model.paths import Paths
from machine_lifecycle.model.plan import BootPlan
from machine_lifecycle.model.progress import ProgressSink
from machine_lifecycle.model.services import Binding
from machine_lifecycle.model.settings import BundleMode, Settings
from machine_lifecycle.plan.making import make_plan
from machine_lifecycle.services.registry import Registry
from machine_lifecycle.supervisor.env_files import check_env_files
from machine_lifecycle.supervisor.limits import check_limits
from machine_lifecycle.system.errors import FileNotRead
from machine_lifecycle.system.files import read_named

__all__ = ["MachinePlanner"]


@attrs.frozen(kw_only=True)
class MachinePlanner:
    """Makes boot plans for one machine; implements ``model.ports.Planner``."""

    settings: Settings
    paths: Paths
    machine_id: str
    environ: Mapping[str, str]
    registry: Registry = Registry()

    def mapping(self) -> ServiceMapping:
        """The service mapping of the settings, or the one in the package.

        Raises:
            MappingUnreadable: The file can't be read.
            Problems: Everything that is wrong in it.
        """
        path = self.settings.service_mapping
        if path is None:
            packaged = resources.files("machine_lifecycle.config").joinpath("service-mapping.json")
            return parse_mapping(
                packaged.read_text(encoding="utf-8"), self.environ, "service-mapping.json"
            )
        try:
            text = read_named(path)
        except FileNotRead as error:
            raise MappingUnreadable(path=path, reason=error.reason) from error
        return parse_mapping(text, self.environ, str(path))

    async def prepare(self, progress: ProgressSink) -> None:
        """Bring the worker bundle, if there is to be one."""
        if self.settings.worker_bundle_mode is not BundleMode.NONE:
            from machine_lifecycle.installers.bundle import bring_bundle  # noqa: PLC0415 - rarely
            from machine_lifecycle.installers.downloading import Downloader  # noqa: PLC0415

            downloader = Downloader(self.environ)
            await bring_bundle(self.settings, self.paths, progress, downloader=downloader)

    def _bundle(self) -> WorkerBundle | None:
        if self.settings.worker_bundle_mode is BundleMode.NONE:
            return None
        from machine_lifecycle.installers.bundle import find_bundle  # noqa: PLC0415 - rarely

        return find_bundle(self.settings, self.paths)

    def plan(self, hardware: Hardware) -> BootPlan:
        """Decide everything that will run."""
        if self.settings.output_store:
            from machine_lifecycle.jobs.stores import check_store  # noqa: PLC0415 - rarely

            check_store(self.settings.output_store)
        bundle = self._bundle()
        registry = attrs.evolve(self.registry, bundled=bundle.connectors if bundle else ())
        plan = make_plan(
            requests=parse_workers(self.settings.workers),
            mapping=self.mapping(),
            lookup=registry.lookup,
            bundle=bundle,
            hardware=hardware,
            settings=self.settings,
            paths=self.paths,
            machine_id=self.machine_id,
            free_port=None,  # the supervisor looks, who knows which processes are ours
            environ=self.environ,
        )
        check_warm_ups(plan)
        errors: list[LifecycleError] = []
        for spec in plan.processes:
            for check in (
                partial(check_limits, spec.name, spec.command.limits),
                partial(check_env_files, spec.name, spec.command),
            ):
                try:
                    check()
                except LifecycleError as error:
                    errors.append(error)
        if errors:
            raise Problems(subject="The plan", errors=tuple(errors))
        return plan

    def capabilities(self) -> tuple[str, ...]:
        """What jobs may ask of this machine, in the order of ``WORKERS``: a job's
        ``service_required`` is one of them.

        Raises:
            LifecycleError: ``WORKERS``, the mapping or a definition can't be read.
        """
        workers, found = self.mapping().workers, list[str]()
        for request in parse_workers(self.settings.workers):
            if entry := workers.get(request.worker):
                found += [route.asks for route in entry.routes]
            else:  # a definition that is named by itself
                found += self.registry.lookup(ServiceEntry(name=request.worker)).capabilities
        return tuple(found)

    def simulated(self) -> bool:
        """Whether every service that is asked for is simulated: an island is no surprise then.

        True as well if that can't be told: what is wrong with the mapping or with ``WORKERS`` is
        the first thing to say, and Starting says it.
        """
        try:
            mapping = self.mapping()
            requests = parse_workers(self.settings.workers)
            entries = [
                mapping.services[name]
                for request in requests
                for name in mapping.workers[request.worker].services
            ]
            bindings = {self.registry.lookup(entry).binding for entry in entries}
        except (LifecycleError, KeyError):
            return True
        return bindings == {Binding.MOCK_GPU}
