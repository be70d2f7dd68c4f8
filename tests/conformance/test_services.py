"""Every service that can be run here is held to the rules that we tell others, and so are rules."""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import attrs
import pytest

from machine_lifecycle import (
    Changed,
    Command,
    CommandReady,
    Event,
    GateDefinition,
    GatePoint,
    GateRefused,
    HttpReady,
    InstallContext,
    Instance,
    Job,
    JobResult,
    LifecycleError,
    MachineFailed,
    MachineState,
    Output,
    Passage,
    Ports,
    Probe,
    Progress,
    Remedy,
    ServiceDefinition,
    Step,
    StepContext,
)
from machine_lifecycle.lifecycle.events import EVENTS
from machine_lifecycle.services.registry import BUILTINS
from machine_lifecycle.system.network import port_is_free
from machine_lifecycle.testing import (
    RulesBroken,
    check_connector,
    check_gate,
    check_installer,
    check_observer,
    check_service,
)
from tests.support.patience import PATIENCE

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

FILE = Output(name="a.txt", kind="text", mime="text/plain", data=b"a")


@attrs.define
class Deaf:
    """A connector that breaks what it is told to."""

    healthy: bool = True
    fraction: float = 0.5
    cancels: bool = False
    capable: Any = attrs.field(factory=dict)
    result: Any = JobResult()
    stubborn: bool = False

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

    async def run(self, job: Job, progress: Callable[[Progress], None]) -> JobResult:
        progress(Progress(fraction=self.fraction))
        if self.stubborn and job.id == "check-2":
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                raise ValueError("not now") from None
        return self.result  # type: ignore[no-any-return]  # that is what is tried

    async def cancel(self, _: str) -> bool:
        return self.cancels


@attrs.define
class Looking(Deaf):
    """One that looks whether its service is there."""

    port: int = 0

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Self:
        return cls(port=int(environ["FILES_PORT"]))

    async def probe(self) -> Probe:
        return Probe(healthy=not port_is_free("127.0.0.1", self.port))


class Touchy(Looking):
    """One that takes a service that is away for an accident."""

    async def probe(self) -> Probe:
        if port_is_free("127.0.0.1", self.port):
            raise ConnectionRefusedError("it is away")
        return Probe(healthy=True)


async def test_a_connector_that_keeps_the_rules_passes() -> None:
    assert await check_connector(Deaf(), payload={}) == JobResult()


@pytest.mark.parametrize(
    ("broken", "rule"),
    [
        (Deaf(healthy=False), "probe() is not healthy, and the service runs"),
        (Deaf(fraction=50), "progress of 50: it goes from 0 to 1"),
        (Deaf(cancels=True), "cancel() of a job that it does not have is not False"),
        (Deaf(capable=["list"]), "capabilities() is no mapping"),
        (Deaf(result="done"), "run() returns no JobResult"),
        (Deaf(result=JobResult(data={"at": Path("/")})), "the result's data is no JSON: "),
        (
            Deaf(result=JobResult(outputs=(attrs.evolve(FILE, name="../a.txt"),))),
            "an output is called '../a.txt': a name without a folder, please",
        ),
        (
            Deaf(result=JobResult(outputs=(attrs.evolve(FILE, mime=""),))),
            "the output a.txt has no MIME type",
        ),
        (Deaf(stubborn=True), "a cancelled run() raises ValueError"),
    ],
)
async def test_a_connector_that_breaks_a_rule_is_told_which(broken: Deaf, rule: str) -> None:
    with pytest.raises(RulesBroken) as told:
        await check_connector(broken, payload={})
    assert any(one.startswith(rule) for one in told.value.rules), told.value


async def test_a_connector_that_is_none_is_told_what_it_lacks() -> None:
    class Nothing:
        def probe(self) -> Probe:
            return Probe(healthy=True)

    with pytest.raises(RulesBroken) as told:
        await check_connector(Nothing(), payload={})  # type: ignore[arg-type]  # that is tried
    assert told.value.rules == (
        *(f"{name}() is no coroutine function" for name in ("probe", "run", "cancel")),
        "capabilities() is no coroutine function",
        "it has no from_env(): no worker can make it",
    )


@attrs.define
class Careless:
    """An installer that breaks what it is told to."""

    writes: bool = False
    moody: bool = False
    forgetful: bool = False
    late_need: bool = False
    twin: bool = False
    silent: bool = False
    elsewhere: bool = False
    hasty: bool = False
    calls: int = 0

    def plan(self, context: InstallContext) -> tuple[Step, ...]:
        self.calls += 1
        if self.writes:
            (context.paths.workspace / str(self.calls)).mkdir(parents=True)

        async def nothing(_: StepContext) -> None:
            """It is quickly done."""

        return (
            Step(
                id="two" if self.twin else "one",
                summary="" if self.silent else "one",
                stage="models" if self.elsewhere else "base",
                timeout=0.0 if self.hasty else 60.0,
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
        (Careless(twin=True), "two steps have one id"),
        (Careless(silent=True), "step one has no summary"),
        (Careless(elsewhere=True), "step one is of stage 'models'"),
        (Careless(hasty=True), "step one has no time"),
    ],
)
async def test_an_installer_that_breaks_a_rule_is_told_which(
    broken: Careless, rule: str, tmp_path: Path
) -> None:
    with pytest.raises(RulesBroken, match=rule.replace("(", r"\(").replace(")", r"\)")):
        await check_installer(broken, folder=tmp_path, service="careless")


async def test_an_installer_that_waits_while_it_plans_is_told_so(tmp_path: Path) -> None:
    class Waiting:
        async def plan(self, _: InstallContext) -> tuple[Step, ...]:
            return ()

    with pytest.raises(RulesBroken, match="is a coroutine function: it only decides"):
        await check_installer(Waiting(), folder=tmp_path, service="x")  # type: ignore[arg-type]  # tried


def serve(instance: Instance) -> Command:
    return Command(argv=(sys.executable, "-m", "http.server", str(instance.port)))


def described(**changes: Any) -> ServiceDefinition:
    whole: dict[str, Any] = {
        "name": "files",
        "summary": "Files.",
        "capabilities": ("files",),
        "connector": "tests.conformance.test_services:Looking",
        "process": serve,
        "ports": Ports(base=9300),
        "readiness": (HttpReady(path="/"),),
        "start_deadline": PATIENCE,
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
            {"connector": "tests.conformance.test_services:Deaf"},
            "probe() is healthy, and the service is away",
        ),
        (
            {"connector": "tests.conformance.test_services:Touchy"},
            "it raises while the service is away, instead of saying so: ConnectionRefusedError",
        ),
        (
            {"process": lambda one: Command(argv=("/bin/sleep", f"10{one.port}"), env={})}
            | {"readiness": (CommandReady(argv=("true",)),), "start_deadline": PATIENCE},
            "it does not listen on its port",
        ),
        (
            {"process": lambda one: attrs.evolve(serve(one), env={"AT": str(one.index)})}
            | {"directories": lambda _: (Path("/etc/files"),)},
            "/etc/files is outside of the instance's and the service's folders",
        ),
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
    assert any(one.startswith(rule) for one in told.value.rules), told.value


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
    raise KeyError(kind)


async def test_an_observer_that_hears_everything_passes() -> None:
    heard: list[str] = []

    async def hear(event: Event) -> None:
        heard.append(event.kind)

    await check_observer(hear)
    assert heard == [*(kind.kind for kind in EVENTS), "event"], "one of each"
    heard.clear()
    await check_observer(hear, sample=sample)
    assert len(heard) == len(EVENTS) + 1


async def test_events_that_are_made_up_can_be_written_and_are_of_the_kind() -> None:
    written: list[str] = []

    def note(event: Event) -> None:
        written.append(json.dumps(event.to_wire()))
        if isinstance(event, MachineFailed):
            assert event.error["summary"]

    await check_observer(note)
    assert len(written) == len(EVENTS) + 1


async def test_an_observer_that_raises_is_told_at_what() -> None:
    def touchy(event: Event) -> None:
        if isinstance(event, Changed):
            raise TypeError("not that one")

    with pytest.raises(RulesBroken, match="it raises at Changed, and would be switched off"):
        await check_observer(touchy, sample=sample)


async def test_an_observer_that_holds_up_the_machine_is_told_so() -> None:
    def slow(event: Event) -> None:
        if isinstance(event, Changed):
            time.sleep(1.1)  # sleep: that is what is tried

    with pytest.raises(RulesBroken, match=r"it holds up the machine for \d+\.\d s: make it"):
        await check_observer(slow, sample=sample)


# Gates

ADVICE = (Remedy("Wait for Monday", "date"),)


async def test_a_gate_that_lets_pass_and_one_that_refuses_well_both_pass() -> None:
    async def opened(_: Passage) -> None:
        """Nothing is against it."""

    def closed(passage: Passage) -> None:
        if passage.point is not GatePoint.STOP:
            raise GateRefused(reason="not today", advice=ADVICE)

    assert await check_gate(opened)
    assert not await check_gate(closed)
    assert not await check_gate(GateDefinition(point=GatePoint.LAUNCH, gate=closed))


def refusing(**words: Any) -> Callable[[Passage], None]:
    def refuse(_: Passage) -> None:
        raise GateRefused(**words)

    return refuse


def answers(_: Passage) -> bool:
    return False


def breaks(_: Passage) -> None:
    raise KeyError("plan")


async def dawdles(_: Passage) -> None:
    await asyncio.Event().wait()


@pytest.mark.parametrize(
    ("broken", "rule"),
    [
        (refusing(reason=" ", advice=ADVICE), "before install it refuses without a reason"),
        (refusing(reason="no"), "before install it refuses, and advises nothing: give remedies"),
        (refusing(reason="no", advice=ADVICE), "it refuses a stop: nothing can prevent one"),
        (answers, "before install it returns False, which nobody reads; to refuse, raise"),
        (breaks, "before install it raises KeyError: 'plan'; to refuse, raise GateRefused"),
        (
            GateDefinition(point=GatePoint.READY, gate=dawdles, deadline=0.1),
            "before ready it has no answer after 0.1 s",
        ),
        (
            GateDefinition(point=GatePoint.READY, gate=dawdles, deadline=0.0),
            "it has 0 s: it can never answer",
        ),
    ],
)
async def test_a_gate_that_breaks_a_rule_is_told_which(broken: Any, rule: str) -> None:
    with pytest.raises(RulesBroken) as told:
        await check_gate(broken)
    assert any(one.startswith(rule) for one in told.value.rules), told.value
