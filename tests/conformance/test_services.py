"""Every service that can be run here is held to the rules that we tell others, and so are rules."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import attrs
import pytest

from machine_lifecycle import (
    Changed,
    Command,
    Event,
    HttpReady,
    InstallContext,
    Instance,
    Job,
    JobResult,
    LifecycleError,
    MachineState,
    Ports,
    Probe,
    Progress,
    ServiceDefinition,
    Step,
    StepContext,
)
from machine_lifecycle.lifecycle.events import EVENTS
from machine_lifecycle.services.registry import BUILTINS
from machine_lifecycle.testing import (
    RulesBroken,
    check_connector,
    check_installer,
    check_observer,
    check_service,
)

pytestmark = pytest.mark.timeout(60)
EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "shout-service"
GRAPH = {
    "1": {
        "class_type": "EmptyImage",
        "inputs": {"width": 64, "height": 48, "batch_size": 1, "color": 255},
    },
    "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "p"}},
}


def builtin(name: str) -> ServiceDefinition:
    return next(one for one in BUILTINS if one.name == name)


async def test_the_simulation_keeps_the_rules(tmp_path: Path) -> None:
    result = await check_service(builtin("simulation"), folder=tmp_path, payload=GRAPH)
    assert [output.kind for output in result.outputs] == ["image"]


async def test_the_example_keeps_the_rules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLE))
    shout_service = importlib.import_module("shout_service")
    environ = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(EXAMPLE)}
    result = await check_service(
        shout_service.SERVICE, folder=tmp_path, payload={"text": "so"}, environ=environ
    )
    assert result.data["said"] == "SO!"


# The rules, each broken once


@attrs.define
class Deaf:
    """A connector that breaks what it is told to."""

    healthy: bool = True
    fraction: float = 0.5
    cancels: bool = False
    capable: Any = attrs.field(factory=dict)

    @classmethod
    def from_env(cls, _: Mapping[str, str]) -> Self:
        return cls()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Nothing was opened."""

    async def probe(self) -> Probe:
        return Probe(healthy=self.healthy)

    async def capabilities(self) -> Mapping[str, Any]:
        return self.capable  # type: ignore[no-any-return]  # that is what is tried

    async def run(self, _: Job, progress: Callable[[Progress], None]) -> JobResult:
        progress(Progress(fraction=self.fraction))
        return JobResult()

    async def cancel(self, _: str) -> bool:
        return self.cancels


async def test_a_connector_that_keeps_the_rules_passes() -> None:
    assert await check_connector(Deaf(), payload={}) == JobResult()


@pytest.mark.parametrize(
    ("broken", "rule"),
    [
        (Deaf(healthy=False), "probe() is not healthy, and the service runs"),
        (Deaf(fraction=50), "progress of 50: it goes from 0 to 1"),
        (Deaf(cancels=True), "cancel() of a job that it does not have is not False"),
        (Deaf(capable=["list"]), "capabilities() is no mapping"),
    ],
)
async def test_a_connector_that_breaks_a_rule_is_told_which(broken: Deaf, rule: str) -> None:
    with pytest.raises(RulesBroken) as told:
        await check_connector(broken, payload={})
    assert rule in told.value.rules


@attrs.define
class Careless:
    """An installer that breaks what it is told to."""

    writes: bool = False
    moody: bool = False
    forgetful: bool = False
    late_need: bool = False
    calls: int = 0

    def plan(self, context: InstallContext) -> tuple[Step, ...]:
        self.calls += 1
        if self.writes:
            (context.paths.workspace / str(self.calls)).mkdir(parents=True)

        async def nothing(_: StepContext) -> None:
            """It is quickly done."""

        return (
            Step(
                id="one",
                summary="one",
                fingerprint=str(self.calls) if self.moody else "1",
                needs=("two",) if self.late_need else (),
                run=nothing,
                present=lambda: not self.forgetful,
            ),
            Step(id="two", summary="two", fingerprint="2", run=nothing),
        )


async def test_an_installer_that_keeps_the_rules_passes(tmp_path: Path) -> None:
    installer = Careless()
    await check_installer(installer, folder=tmp_path, service="careless")
    assert installer.calls > 1


@pytest.mark.parametrize(
    ("broken", "rule"),
    [
        (Careless(writes=True), "plan() writes"),
        (Careless(moody=True), "plan() gives other ids or fingerprints at the second call"),
        (Careless(forgetful=True), "step one is done, and present() says that it is not"),
        (Careless(late_need=True), "step one needs {'two'}, which do not come before it"),
    ],
)
async def test_an_installer_that_breaks_a_rule_is_told_which(
    broken: Careless, rule: str, tmp_path: Path
) -> None:
    with pytest.raises(RulesBroken, match=rule.replace("(", r"\(").replace(")", r"\)")):
        await check_installer(broken, folder=tmp_path, service="careless")


def serve(instance: Instance) -> Command:
    return Command(argv=(sys.executable, "-m", "http.server", str(instance.port)))


def described(**changes: Any) -> ServiceDefinition:
    whole: dict[str, Any] = {
        "name": "files",
        "summary": "Files.",
        "capabilities": ("files",),
        "connector": "tests.conformance.test_services:Deaf",
        "process": serve,
        "ports": Ports(base=9300),
        "readiness": (HttpReady(path="/"),),
        "start_deadline": 20.0,
    }
    return ServiceDefinition(**(whole | changes))


async def test_a_service_that_keeps_the_rules_passes(tmp_path: Path) -> None:
    assert await check_service(described(), folder=tmp_path, payload={}) == JobResult()


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"summary": ""}, "its summary says nothing"),
        ({"capabilities": ()}, "jobs can ask nothing of it: no capability"),
        ({"process": None}, "it has no process: it runs elsewhere"),
        ({"readiness": ()}, "it has a port, and nothing says when it is ready"),
        (
            {
                "process": lambda one: attrs.evolve(serve(one), env={"API_KEY": "x"}),
            },
            "API_KEY looks like a secret, and env is shown: name it in secrets",
        ),
    ],
)
async def test_a_service_that_breaks_a_rule_is_told_which(
    changes: dict[str, Any], rule: str, tmp_path: Path
) -> None:
    with pytest.raises(RulesBroken) as told:
        await check_service(described(**changes), folder=tmp_path, payload={})
    assert rule in told.value.rules


async def test_a_service_that_does_not_start_says_why(tmp_path: Path) -> None:
    def broken(instance: Instance) -> Command:
        return Command(argv=(sys.executable, "-c", f"raise SystemExit('no {instance.port}')"))

    with pytest.raises(LifecycleError) as told:
        await check_service(described(process=broken), folder=tmp_path, payload={})
    assert any(line.startswith("no ") for line in told.value.context)


# Observers


def sample(kind: type[Event]) -> Event:
    if kind is Changed:
        return Changed(
            source=MachineState.STARTING,
            target=MachineState.INSTALLING,
            trigger="plan_made",
            why="it is made",
        )
    return kind()


async def test_an_observer_that_hears_everything_passes() -> None:
    heard: list[str] = []

    async def hear(event: Event) -> None:
        heard.append(event.kind)

    await check_observer(hear, sample=sample)
    assert "changed" in heard
    assert set(heard) <= {"event", *(kind.kind for kind in EVENTS)}


async def test_an_observer_that_raises_is_told_at_what() -> None:
    def touchy(event: Event) -> None:
        if isinstance(event, Changed):
            raise TypeError("not that one")

    with pytest.raises(RulesBroken, match="it raises at Changed, and would be switched off"):
        await check_observer(touchy, sample=sample)
