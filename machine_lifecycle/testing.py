"""Checks for people who write services, installers, connectors and observers.

Each check runs the thing for real, in a folder of its own, and raises ``RulesBroken`` with every
rule that does not hold. They need no test framework::

    from machine_lifecycle.testing import check_service

    async def test_my_service(tmp_path):
        await check_service(SERVICE, folder=tmp_path, payload={"text": "hello"})

Our own services are held to them by our own tests.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import re
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs

from machine_lifecycle.errors import LifecycleError
from machine_lifecycle.installers.base import load_installer
from machine_lifecycle.installers.execute import Executor
from machine_lifecycle.lifecycle.events import EVENTS, Event
from machine_lifecycle.lifecycle.hooks import Observer
from machine_lifecycle.model.catalogue import ServiceEntry
from machine_lifecycle.model.hardware import Gpu, Hardware
from machine_lifecycle.model.installing import InstallContext, Installer
from machine_lifecycle.model.jobs import Job, JobResult, Progress
from machine_lifecycle.model.paths import Paths
from machine_lifecycle.model.plan import InstallPlan
from machine_lifecycle.model.ports import Connector
from machine_lifecycle.model.processes import Command, ProcessSpec
from machine_lifecycle.model.progress import Unheard
from machine_lifecycle.model.services import Binding, Instance, ServiceDefinition
from machine_lifecycle.model.settings import Settings
from machine_lifecycle.plan.processes import connector_variables, service_process
from machine_lifecycle.services.plugins import load_reference
from machine_lifecycle.supervisor.core import Supervisor
from machine_lifecycle.system.network import free_port, port_is_free

__all__ = [
    "RulesBroken",
    "check_connector",
    "check_installer",
    "check_observer",
    "check_service",
    "running",
]

_PATIENCE = 10.0
_SECRET = re.compile(r"KEY|TOKEN|SECRET|PASSW|CREDENTIAL")


class RulesBroken(AssertionError):
    """What was checked breaks rules that the machine relies on.

    Attributes:
        rules: A sentence for each.
    """

    def __init__(self, subject: str, rules: tuple[str, ...]) -> None:
        """Name *subject* and every rule it breaks."""
        lines = "".join(f"\n- {rule}" for rule in rules)
        super().__init__(f"{subject} breaks {len(rules)} rule{'s'[: len(rules) > 1]}:{lines}")
        self.rules = rules


class _Rules:
    """Collects what is broken; raises all of it at the end."""

    def __init__(self, subject: str) -> None:
        self._subject = subject
        self._broken: list[str] = []

    def hold(self, holds: bool, rule: str) -> None:  # noqa: FBT001 - what is asserted
        """Note a rule that does not hold."""
        if not holds:
            self._broken.append(rule)

    def judge(self) -> None:
        """Raise if any was broken."""
        if self._broken:
            raise RulesBroken(self._subject, tuple(self._broken))


# Services


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
    rules = _Rules(f"service {definition.name}")
    paths = _paths(folder)
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
        result = await check_connector(connector, payload=payload)
    rules.hold(port_is_free("127.0.0.1", port), f"port {port} is still taken after its stop")
    rules.judge()
    return result


def _check_command(rules: _Rules, definition: ServiceDefinition, instances: list[Instance]) -> None:
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


def _check_secrets(rules: _Rules, command: Command) -> None:
    for name, value in command.env.items():
        held = bool(_SECRET.search(name)) and bool(value)
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
    paths, chosen = _paths(folder), settings or Settings()
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
            await supervisor.stop_all(_PATIENCE, support=True)


async def _started(supervisor: Supervisor, spec: ProcessSpec) -> None:
    await supervisor.launch((spec,))
    await supervisor.wait_ready((spec.name,))


def _paths(folder: Path) -> Paths:
    return Paths(workspace=folder / "workspace", runtime=folder / "runtime")


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


# Installers


async def check_installer(
    installer: Installer,
    *,
    folder: Path,
    service: str,
    settings: Settings | None = None,
    environ: Mapping[str, str] | None = None,
) -> None:
    """Plan, install, and install again.

    Args:
        installer: What plans the steps.
        folder: For everything that is written; empty.
        service: Whose installer it is.
        settings: Of the machine.
        environ: What its programs are given; this process's own environment if not given.

    Raises:
        RulesBroken: With every rule that does not hold.
        LifecycleError: A step failed.
    """
    rules = _Rules(f"installer of {service}")
    paths = _paths(folder)
    inherited = dict(os.environ if environ is None else environ)  # noqa: TID251 - see the argument
    context = InstallContext(
        service=service,
        settings=settings or Settings(),
        environ=inherited,
        hardware=Hardware(),
        paths=paths,
    )
    before = _files(folder)
    steps, again = installer.plan(context), installer.plan(context)
    rules.hold(_files(folder) == before, "plan() writes: only steps may, when they are run")
    same = [(step.id, step.fingerprint) for step in steps]
    rules.hold(
        same == [(step.id, step.fingerprint) for step in again],
        "plan() gives other ids or fingerprints at the second call: nothing is ever skipped",
    )
    ids = [step.id for step in steps]
    rules.hold(len(set(ids)) == len(ids), "two steps have one id")
    for position, step in enumerate(steps):
        early = set(step.needs) - set(ids[:position])
        rules.hold(not early, f"step {step.id} needs {early}, which do not come before it")
        rules.hold(bool(step.summary), f"step {step.id} has no summary")
        rules.hold(step.timeout > 0, f"step {step.id} has no time")
        rules.hold(step.stage in {"base", "nodes"}, f"step {step.id} is of stage {step.stage!r}")
    rules.judge()
    plan = InstallPlan(service=service, installer=service)
    for attempt in ("first", "second"):
        executor = Executor(
            paths, settings=settings, environ=inherited, resolve=lambda _: installer
        )
        done = 0
        for stage in ("base", "nodes"):
            done += await executor.install(plan, stage, Unheard())
        repeated = attempt == "second" and done > 0
        rules.hold(not repeated, f"{done} steps are done again at the second boot")
    for step in installer.plan(context):
        rules.hold(step.present(), f"step {step.id} is done, and present() says that it is not")
    rules.judge()


def _files(folder: Path) -> dict[Path, int]:
    return {path: path.lstat().st_mtime_ns for path in folder.rglob("*")}


# Connectors


async def check_connector(connector: Connector, *, payload: Mapping[str, Any]) -> JobResult:
    """Enter a connector of a running service, look, do a job, cancel one, leave.

    Args:
        connector: Not entered yet.
        payload: Of a job that the service can do.

    Returns:
        What the job made.

    Raises:
        RulesBroken: With every rule that does not hold.
        LifecycleError: The job failed.
    """
    rules = _Rules(type(connector).__name__)
    for name in ("probe", "run", "cancel", "capabilities"):
        method = getattr(connector, name, None)
        rules.hold(inspect.iscoroutinefunction(method), f"{name}() is no coroutine function")
    rules.hold(hasattr(type(connector), "from_env"), "it has no from_env(): no worker can make it")
    rules.judge()
    told: list[Progress] = []
    async with connector as entered:
        rules.hold((await entered.probe()).healthy, "probe() is not healthy, and the service runs")
        proved = await entered.capabilities()
        rules.hold(isinstance(proved, Mapping), "capabilities() is no mapping")
        result = await entered.run(_job("check-1", payload), told.append)
        rules.hold(isinstance(result, JobResult), "run() returns no JobResult")
        for one in told:
            inside = 0.0 <= one.fraction <= 1.0
            rules.hold(inside, f"progress of {one.fraction}: it goes from 0 to 1")
        unknown = await entered.cancel("never-heard-of")
        rules.hold(unknown is False, "cancel() of a job that it does not have is not False")
        await _check_cancelling(rules, entered, payload)
        healthy = (await entered.probe()).healthy
        rules.hold(healthy, "probe() is not healthy any more after a cancelled job")
    rules.judge()
    return result


async def _check_cancelling(
    rules: _Rules, connector: Connector, payload: Mapping[str, Any]
) -> None:
    task = asyncio.ensure_future(connector.run(_job("check-2", payload), lambda _: None))
    await asyncio.sleep(0)  # it has begun
    task.cancel()
    done, _ = await asyncio.wait({task}, timeout=_PATIENCE)
    rules.hold(bool(done), f"a cancelled run() has not ended after {_PATIENCE:g} s")
    if done and not task.cancelled() and (error := task.exception()) is not None:
        ours = isinstance(error, LifecycleError)
        rules.hold(ours, f"a cancelled run() raises {type(error).__name__}")


def _job(identity: str, payload: Mapping[str, Any]) -> Job:
    return Job(id=identity, service_required="check", payload=payload, timeout=60.0)


# Observers


async def check_observer(
    observer: Observer[Event], *, sample: Callable[[type[Event]], Event] | None = None
) -> None:
    """Hand an observer one event of each kind that has no required facts, and those you make.

    Args:
        observer: A function or coroutine function of one event.
        sample: Makes an event of a kind; kinds for which it raises ``KeyError`` are left out.

    Raises:
        RulesBroken: With every rule that does not hold.
    """
    rules = _Rules(getattr(observer, "__qualname__", type(observer).__name__))
    for kind in (*EVENTS, Event):
        try:
            event = sample(kind) if sample else kind()
        except (KeyError, TypeError):
            continue
        try:
            async with asyncio.timeout(_PATIENCE):
                heard = observer(event)
                if inspect.isawaitable(heard):
                    await heard
        except TimeoutError:
            rules.hold(False, f"it still works on {kind.__name__} after {_PATIENCE:g} s")  # noqa: FBT003
        except Exception as error:  # noqa: BLE001 - whatever it raises would switch it off
            words = f"{type(error).__name__}: {error}"
            rules.hold(False, f"it raises at {kind.__name__}, and would be switched off: {words}")  # noqa: FBT003
    rules.judge()
