"""A whole service, from its installation to a job and its end."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs

from machine_lifecycle.installers.base import load_installer
from machine_lifecycle.model.catalogue import ServiceEntry
from machine_lifecycle.model.hardware import Gpu
from machine_lifecycle.model.jobs import JobResult
from machine_lifecycle.model.paths import Paths
from machine_lifecycle.model.ports import Connector
from machine_lifecycle.model.processes import Command, ProcessSpec
from machine_lifecycle.model.redaction import names_secret
from machine_lifecycle.model.services import Binding, Instance, ServiceDefinition
from machine_lifecycle.model.settings import Settings
from machine_lifecycle.plan.processes import connector_variables, service_process
from machine_lifecycle.services.plugins import load_reference
from machine_lifecycle.supervisor.core import Supervisor
from machine_lifecycle.system.network import free_port, port_is_free
from machine_lifecycle.testing.connectors import check_connector
from machine_lifecycle.testing.folders import paths_in
from machine_lifecycle.testing.installers import check_installer
from machine_lifecycle.testing.rules import PATIENCE, Rules, RulesBroken

__all__ = ["check_service", "running"]


async def check_service(
    definition: ServiceDefinition,
    *,
    folder: Path,
    payload: Mapping[str, Any],
    settings: Settings | None = None,
    environ: Mapping[str, str] | None = None,
) -> JobResult:
    """Install a service, start an instance, wait until it is ready, do a job, stop it.

    Args:
        definition: The service; one that runs elsewhere can't be checked so.
        folder: For everything that is written; empty.
        payload: Of a job that it can do.
        settings: Of the machine.
        environ: What its processes inherit; this process's own environment if not given.

    Returns:
        What the job made, for checks of your own.

    Raises:
        RulesBroken: With every rule that does not hold.
        LifecycleError: It could not be installed, started, or do the job.
    """
    rules = Rules(f"service {definition.name}")
    paths = paths_in(folder)
    instances = [_instance(definition, index, paths, settings or Settings()) for index in (0, 1)]
    rules.hold(bool(definition.summary), "its summary says nothing")
    rules.hold(bool(definition.capabilities), "jobs can ask nothing of it: no capability")
    rules.hold(definition.process is not None, "it has no process: it runs elsewhere")
    rules.judge()
    _check_command(rules, definition, instances)
    if definition.installer:
        installer = load_installer(definition.installer)
        await check_installer(
            installer, folder=folder, service=definition.name, settings=settings, environ=environ
        )
    async with running(definition, folder=folder, settings=settings, environ=environ) as (
        connector,
        port,
    ):
        rules.hold(not port_is_free("127.0.0.1", port), f"it does not listen on its port, {port}")
        result = JobResult()
        try:
            result = await check_connector(connector, payload=payload)
        except RulesBroken as broken:
            rules.include(broken)
    rules.hold(port_is_free("127.0.0.1", port), f"port {port} is still taken after its stop")
    await _check_away(rules, instances[0], definition, environ)
    rules.judge()
    return result


async def _check_away(
    rules: Rules,
    instance: Instance,
    definition: ServiceDefinition,
    environ: Mapping[str, str] | None,
) -> None:
    """A worker enters its connector before its service is up, and keeps it while that is down."""
    made = load_reference(definition.connector, definition.name)
    where = connector_variables(((instance, definition),))
    inherited = dict(os.environ if environ is None else environ)  # noqa: TID251 - see check_service
    try:
        async with asyncio.timeout(PATIENCE), made.from_env({**inherited, **where}) as connector:
            probe = await connector.probe()
        rules.hold(not probe.healthy, "probe() is healthy, and the service is away")
    except TimeoutError:
        rules.hold(False, f"probe() has no answer after {PATIENCE:g} s, while it is away")  # noqa: FBT003
    except Exception as error:  # noqa: BLE001 - whatever it raises would end its worker
        words = f"{type(error).__name__}: {error}"
        rules.hold(False, f"it raises while the service is away, instead of saying so: {words}")  # noqa: FBT003


def _check_command(rules: Rules, definition: ServiceDefinition, instances: list[Instance]) -> None:
    make = definition.process
    if make is None:
        return
    first, second = (make(instance) for instance in instances)
    rules.hold(make(instances[0]) == first, "process() gives another command at the second call")
    rules.hold(first != second, "two instances have the same command: the port must differ")
    for command in (first, second):
        _check_secrets(rules, command)
    if definition.ports is not None:
        told = " ".join((*first.argv, *first.env.values()))
        port = instances[0].port
        rules.hold(str(port) in told, f"neither arguments nor variables tell it its port, {port}")
        rules.hold(bool(definition.readiness), "it has a port, and nothing says when it is ready")
    folders = definition.directories(instances[0]) if definition.directories else ()
    for one in folders:
        inside = instances[0].data in (one, *one.parents) or instances[0].home in one.parents
        rules.hold(inside, f"{one} is outside of the instance's and the service's folders")


def _check_secrets(rules: Rules, command: Command) -> None:
    for name, value in command.env.items():
        held = names_secret(name) and bool(value)
        rules.hold(not held, f"{name} looks like a secret, and env is shown: name it in secrets")


@asynccontextmanager
async def running(
    definition: ServiceDefinition,
    *,
    folder: Path,
    settings: Settings | None = None,
    environ: Mapping[str, str] | None = None,
) -> AsyncIterator[tuple[Connector, int]]:
    """An installed service's instance under the real supervisor, once it is ready.

    Yields:
        Its connector, which is not entered yet, and the port it listens on.

    Raises:
        LifecycleError: It did not get ready, with the last lines of its log.
    """
    paths, chosen = paths_in(folder), settings or Settings()
    inherited = dict(os.environ if environ is None else environ)  # noqa: TID251 - see the argument
    instance = _instance(definition, 0, paths, chosen)
    spec = service_process(
        instance, definition, entry=ServiceEntry(name=definition.name), essential=True
    )
    with tempfile.TemporaryDirectory(prefix="ml-", dir="/tmp") as runtime:
        supervisor = Supervisor(
            paths=attrs.evolve(paths, runtime=Path(runtime)),
            base_env=inherited,
            secrets=inherited.get,
            on_change=lambda _: None,
            on_fatal=lambda _, __: None,
            on_needs=lambda _, __: None,
            guest=True,
        )
        try:
            await _started(supervisor, spec)
            where = connector_variables(((instance, definition),))
            made = load_reference(definition.connector, definition.name)
            yield made.from_env({**inherited, **where}), instance.port
        finally:
            await supervisor.stop_all(PATIENCE, support=True)


async def _started(supervisor: Supervisor, spec: ProcessSpec) -> None:
    await supervisor.launch((spec,))
    await supervisor.wait_ready((spec.name,))


def _instance(
    definition: ServiceDefinition, index: int, paths: Paths, settings: Settings
) -> Instance:
    bound = definition.binding in {Binding.GPU, Binding.MOCK_GPU}
    gpu = Gpu(index=index, name="Simulated GPU", memory_mib=16384, uuid=f"MOCK-{index}", visible="")
    return Instance(
        id=f"{definition.name}-{index}",
        service=definition.name,
        index=index,
        gpu=gpu if bound else None,
        host=settings.comfyui_listen,
        port=free_port(),
        paths=paths,
        home=paths.service(definition.name),
        data=paths.instance(f"{definition.name}-{index}"),
        settings={},
    )
