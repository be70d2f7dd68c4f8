"""The runner carries out what the lifecycle orders; activities here are small scripts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, ClassVar, cast

import attrs

from machine_lifecycle.errors import ConfigurationError, LifecycleError, Problems
from machine_lifecycle.lifecycle.core import Lifecycle
from machine_lifecycle.lifecycle.events import Changed, Event, StepProgressed
from machine_lifecycle.lifecycle.hooks import EventBus
from machine_lifecycle.lifecycle.policy import BootPolicy
from machine_lifecycle.lifecycle.record import Limits
from machine_lifecycle.lifecycle.runner import Runner, as_error
from machine_lifecycle.model.hardware import Hardware
from machine_lifecycle.model.plan import BootPlan
from machine_lifecycle.model.ports import ProgressSink
from machine_lifecycle.states import stimuli as st
from machine_lifecycle.states.activities import Activity
from machine_lifecycle.states.context import Context
from machine_lifecycle.states.names import MachineState as S
from machine_lifecycle.system.clock import SystemClock
from tests.support.patience import PATIENCE

PLAN = BootPlan(machine_id="m", hardware=Hardware())


@attrs.define(kw_only=True, slots=False, eq=False)
class Hiccup(LifecycleError):
    """It may go better next time."""

    code: ClassVar[str] = "test-hiccup"


@attrs.define(kw_only=True, slots=False, eq=False)
class Typo(ConfigurationError):
    """It will not."""

    code: ClassVar[str] = "test-typo"


@attrs.define
class Scripted:
    """A context that only knows its attempt and its progress sink."""

    attempt: int
    progress: ProgressSink
    supervisor: Any
    registry: Any
    queue: Any
    settings: Any


class Nothing:
    """Stands for supervisor, registry and queue: notes what was asked of it."""

    def __init__(self, calls: list[str]) -> None:
        self._calls = calls
        self.stop_budget = 1.0

    def kill_all(self) -> None:
        self._calls.append("kill_all")

    async def deregister(self) -> None:
        self._calls.append("deregister")

    async def close(self) -> None:
        self._calls.append("close")


FACTS: dict[S, Callable[[int], st.Stimulus]] = {
    S.STARTING: lambda a: st.PlanMade(attempt=a, plan=PLAN),
    S.INSTALLING: lambda a: st.BaseInstalled(attempt=a),
    S.CUSTOM_NODES: lambda a: st.NodesInstalled(attempt=a),
    S.PM_GENERATION: lambda a: st.ProcessesPrepared(attempt=a),
    S.LAUNCHING: lambda a: st.ProcessesLaunched(attempt=a),
    S.SERVICES_STARTING: lambda a: st.ServicesOnline(attempt=a),
    S.WORKERS_STARTING: lambda a: st.WorkersConnected(attempt=a),
    S.HEALTH_CHECK: lambda a: st.MachineHealthy(attempt=a),
    S.RESTARTING: lambda a: st.CleanedUp(attempt=a),
    S.STOPPING: lambda _: st.AllStopped(),
}


class World:
    """A runner whose activities succeed at once, but for those a test replaces."""

    def __init__(self, replaced: dict[S, Activity] | None = None, **options: Any) -> None:
        self.calls: list[str] = []
        self.moves: list[str] = []
        self.clock = SystemClock()
        self.bus = EventBus(self.clock)
        options.setdefault("policy", BootPolicy(attempts=2, backoff=0.01))
        self.life = Lifecycle(**options)
        activities = {state: self._script(state) for state in FACTS} | (replaced or {})
        self.runner = Runner(
            self.life,
            clock=self.clock,
            bus=self.bus,
            context=self._context,
            waiting=lambda: ("the moon",),
            activities=activities,
        )
        self.bus.on(Changed, lambda event: self.moves.append(event.target.value))

    def _context(self, attempt: int, progress: ProgressSink) -> Context:
        nothing = Nothing(self.calls)
        made = Scripted(attempt, progress, nothing, nothing, nothing, nothing)
        return cast(Context, made)

    def _script(self, state: S) -> Activity:
        async def run(ctx: Context) -> st.Stimulus:
            self.calls.append(state.value)
            if state is S.HEALTH_CHECK:
                asyncio.get_running_loop().call_soon(self.ready)
            return FACTS[state](ctx.attempt)

        return run

    def ready(self) -> None:
        self.runner.post(st.StopRequested(reason="the test is over"))

    async def live(self) -> int:
        async with asyncio.timeout(PATIENCE):
            code = await self.runner.run()
            await self.bus.close()
        return code


async def test_a_life_goes_through_every_state() -> None:
    world = World()
    assert await world.live() == 0
    assert world.calls[:8] == [state.value for state in list(FACTS)[:8]]
    assert world.moves[-3:] == ["ready", "stopping", "stopped"]


async def test_a_failed_attempt_is_repeated_from_the_start() -> None:
    tries = []

    async def launching(ctx: Context) -> st.Stimulus:
        tries.append(ctx.attempt)
        if len(tries) == 1:
            raise Hiccup
        return st.ProcessesLaunched(attempt=ctx.attempt)

    world = World({S.LAUNCHING: launching})
    assert await world.live() == 0
    assert tries == [1, 2]
    assert world.calls.count("starting") == 2
    assert world.calls.count("restarting") == 1


async def test_what_cannot_heal_ends_with_its_own_code() -> None:
    async def starting(_: Context) -> st.Stimulus:
        raise Typo

    world = World({S.STARTING: starting})
    assert await world.live() == 2
    assert world.moves == ["failed", "stopping", "stopped"]


async def test_an_unforeseen_exception_becomes_a_fault_that_says_where() -> None:
    async def installing(_: Context) -> st.Stimulus:
        raise ZeroDivisionError("oops")

    world = World({S.INSTALLING: installing})
    assert await world.live() == 3
    failure = world.life.record.failure
    assert failure is not None
    assert failure.code == "internal-fault"
    assert "test_runner.py" in str(failure)


async def test_a_stop_cancels_the_activity_and_waits_for_its_cleaning_up() -> None:
    order: list[str] = []
    begun = asyncio.Event()

    async def installing(_: Context) -> st.Stimulus:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.02)  # sleep: a clean-up that takes a while
            order.append("cleaned up")
        raise AssertionError

    async def stopping(_: Context) -> st.Stimulus:
        order.append("stopping")
        return st.AllStopped()

    world = World({S.INSTALLING: installing, S.STOPPING: stopping})
    life = asyncio.create_task(world.live())
    await begun.wait()
    world.runner.post(st.StopRequested(reason="SIGTERM", signal="SIGTERM"))
    assert await life == 0
    assert order == ["cleaned up", "stopping"]


async def test_the_second_signal_forces() -> None:
    begun = asyncio.Event()

    async def stopping(_: Context) -> st.Stimulus:
        begun.set()
        await asyncio.Event().wait()
        raise AssertionError

    world = World({S.STOPPING: stopping})
    life = asyncio.create_task(world.live())
    await begun.wait()
    world.runner.post(st.StopRequested(reason="again", signal="SIGINT"))
    assert await life == 130
    assert world.calls[-3:] == ["kill_all", "deregister", "close"]


async def test_a_stop_that_overruns_its_budget_is_forced() -> None:
    async def stopping(_: Context) -> st.Stimulus:
        await asyncio.Event().wait()
        raise AssertionError

    world = World({S.STOPPING: stopping}, stop_budget=0.05)
    assert await world.live() == 0
    assert "kill_all" in world.calls


async def test_a_stalled_state_fails_and_says_what_it_waited_for() -> None:
    async def installing(_: Context) -> st.Stimulus:
        await asyncio.Event().wait()
        raise AssertionError

    world = World(
        {S.INSTALLING: installing},
        limits={S.INSTALLING: Limits(stall=0.05)},
        policy=BootPolicy(attempts=1),
    )
    assert await world.live() == 3
    assert world.life.record.failure is not None
    assert "the moon" in str(world.life.record.failure)


async def test_progress_keeps_a_slow_state_alive_and_is_told() -> None:
    heard: list[Event] = []

    async def installing(ctx: Context) -> st.Stimulus:
        for number in range(6):
            await asyncio.sleep(0.25)  # sleep: a step that takes a while
            ctx.progress.step("clone", done=number, total=6)
        return st.BaseInstalled(attempt=ctx.attempt)

    world = World({S.INSTALLING: installing}, limits={S.INSTALLING: Limits(stall=1)})
    world.bus.on(StepProgressed, heard.append)
    assert await world.live() == 0
    assert len(heard) == 6


async def test_a_late_answer_of_an_old_attempt_moves_nothing() -> None:
    world = World()
    asyncio.get_running_loop().call_soon(lambda: world.runner.post(st.MachineHealthy(attempt=9)))
    assert await world.live() == 0
    assert any("attempt 9" in entry.change for entry in world.life.record.story)


async def test_cancelling_the_runner_leaves_no_task() -> None:
    begun = asyncio.Event()

    async def installing(_: Context) -> st.Stimulus:
        begun.set()
        await asyncio.Event().wait()
        raise AssertionError

    world = World({S.INSTALLING: installing})
    life = asyncio.create_task(world.runner.run())
    await begun.wait()
    life.cancel()
    await asyncio.wait({life})
    await world.bus.close()
    assert {task for task in asyncio.all_tasks() if task is not asyncio.current_task()} == set()


def test_groups_are_unpacked() -> None:
    one = ExceptionGroup("g", [Hiccup()])
    assert as_error(one, during="x").code == "test-hiccup"
    two = as_error(ExceptionGroup("g", [Hiccup(), Typo()]), during="x")
    assert isinstance(two, Problems)
    assert [part.code for part in two.parts()] == ["test-hiccup", "test-typo"]
