"""The step executor with real programs: order, retries, failures, cancelling, kill -9."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tracemalloc
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, ClassVar

import attrs
import psutil
import pytest

from machine_lifecycle.errors import LifecycleError, Problems
from machine_lifecycle.installers.base import StepStatus
from machine_lifecycle.installers.errors import ProgramMissing, StepTimeout
from machine_lifecycle.installers.execute import Executor
from machine_lifecycle.model.installing import InstallContext, Step, StepContext
from machine_lifecycle.model.paths import Paths
from machine_lifecycle.model.plan import InstallPlan
from tests.support.patience import PATIENCE
from tests.support.progress import KeptProgress

Run = Callable[[StepContext], Awaitable[None]]
ENV = {"PATH": "/usr/bin:/bin"}


class Flaky(LifecycleError):
    """Fails once."""

    code: ClassVar[str] = "test-flaky"


@attrs.frozen
class Fixed:
    """An installer with given steps."""

    steps: tuple[Step, ...]

    def plan(self, context: InstallContext) -> tuple[Step, ...]:  # noqa: ARG002
        return self.steps


def step(step_id: str, run: Run, *needs: str, **more: Any) -> Step:
    return Step(id=step_id, summary=step_id, fingerprint="1", needs=needs, run=run, **more)


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths(workspace=tmp_path / "ws", runtime=tmp_path / "rt")


PLAN = InstallPlan(service="thing", installer="fixed")


def executor(paths: Paths, *steps: Step, **more: Any) -> Executor:
    return Executor(paths, resolve=lambda _: Fixed(steps), retry_wait=0.001, **more)


async def test_steps_follow_their_needs_and_are_done_once(paths: Paths) -> None:
    order: list[str] = []

    def note(name: str) -> Run:
        async def run(ctx: StepContext) -> None:
            order.append(name)

        return run

    steps = (step("c", note("c"), "b"), step("b", note("b"), "a"), step("a", note("a")))
    assert await executor(paths, *steps).install(PLAN, "base", KeptProgress()) == 3
    assert order == ["a", "b", "c"]
    sink = KeptProgress()
    assert await executor(paths, *steps).install(PLAN, "base", sink) == 0
    assert sink.lines == ["a skipped", "b skipped", "c skipped"]
    assert [done for _, done in executor(paths, *steps).steps(PLAN)] == [True] * 3


async def test_what_is_no_longer_planned_is_no_failure(paths: Paths) -> None:
    async def fails(ctx: StepContext) -> None:
        raise Flaky

    async def works(ctx: StepContext) -> None:
        pass

    planned = [step("pack", fails, required=False), step("other", fails, required=False)]
    run = Executor(paths, resolve=lambda _: Fixed(tuple(planned)), retry_wait=0.001)
    await run.install(PLAN, "base", KeptProgress())
    assert [one.step for one in run.failures] == ["pack", "other"]
    planned[:] = [step("pack", works, required=False), step("later", works, stage="nodes")]
    await run.install(PLAN, "base", KeptProgress())
    assert run.failures == ()
    assert [one.step for one in run.outcomes] == ["pack"]


async def test_no_more_than_so_many_at_once_and_exclusive_ones_alone(paths: Paths) -> None:
    running: set[tuple[int, bool]] = set()
    most, alone = [0], [0]

    def work(name: int, exclusive: bool) -> Run:  # noqa: FBT001
        async def run(ctx: StepContext) -> None:
            running.add((name, exclusive))
            most[0] = max(most[0], len(running))
            alone[0] = max(alone[0], sum(one for _, one in running))
            await ctx.run_command(["true"], env=ENV)
            running.discard((name, exclusive))

        return run

    steps = [step(f"s{i}", work(i, False)) for i in range(8)]  # noqa: FBT003
    steps += [step(f"x{i}", work(i, True), exclusive="packages") for i in range(3)]  # noqa: FBT003
    assert await executor(paths, *steps, concurrency=3).install(PLAN, "base", KeptProgress()) == 11
    assert most[0] == 3
    assert alone[0] == 1


async def test_all_failures_are_told_and_what_needs_them_is_left_out(paths: Paths) -> None:
    async def fails(ctx: StepContext) -> None:
        await ctx.run_command(["sh", "-c", "echo why >&2; exit 3"], env=ENV)

    async def crashes(ctx: StepContext) -> None:
        raise ValueError("odd")

    async def good(ctx: StepContext) -> None:
        pass

    run = executor(
        paths, step("a", fails), step("b", crashes), step("c", good, "a"), step("d", good)
    )
    with pytest.raises(Problems) as caught:
        await run.install(PLAN, "base", KeptProgress())
    assert {error.code for error in caught.value.errors} == {
        "install-command-failed",
        "install-step-crashed",
    }
    assert "why" in str(caught.value)
    status = {outcome.step: outcome.status for outcome in run.outcomes}
    assert status["c"] is StepStatus.BLOCKED
    assert status["d"] is StepStatus.DONE


async def test_an_optional_failure_is_kept_and_the_boot_goes_on(paths: Paths) -> None:
    async def fails(ctx: StepContext) -> None:
        await ctx.run_command(["/no/such/program"], env=ENV)

    run = executor(paths, step("a", fails, required=False, subject="Pack"))
    assert await run.install(PLAN, "base", KeptProgress()) == 0
    (failure,) = run.failures
    assert failure.subject == "Pack"
    assert isinstance(failure.error, ProgramMissing)


async def test_only_what_another_try_could_mend_is_tried_again(paths: Paths) -> None:
    tries: list[str] = []

    async def flaky(ctx: StepContext) -> None:
        tries.append("flaky")
        if tries.count("flaky") < 3:
            raise Flaky

    async def hopeless(ctx: StepContext) -> None:
        tries.append("hopeless")
        raise ProgramMissing(program="x")

    steps = (step("a", flaky, retries=2), step("b", hopeless, retries=2, required=False))
    assert await executor(paths, *steps).install(PLAN, "base", KeptProgress()) == 1
    assert tries.count("flaky") == 3
    assert tries.count("hopeless") == 1


async def test_a_letter_that_comes_in_two_parts_is_one(paths: Paths) -> None:
    told = []

    async def run(ctx: StepContext) -> None:
        # The first half is waited for: what is written at once could come at once.
        words = "printf 'caf\\303' && sleep 0.2 && printf '\\251\\n\\303'"
        told.append((await ctx.run_command(["sh", "-c", words], env=ENV)).output)

    await executor(paths, step("a", run)).install(PLAN, "base", KeptProgress())
    assert told == ["café\n\ufffd"]


@pytest.mark.parametrize("end", ["\n", ""], ids=["lines", "one line without an end"])
async def test_a_program_may_write_more_than_fits_into_memory(paths: Paths, end: str) -> None:
    written, pieces = 100_000, 200
    words = f"import sys\nfor _ in range({pieces}): sys.stdout.write('x' * {written} + {end!r})"
    told = []

    async def run(ctx: StepContext) -> None:
        found = await ctx.run_command([sys.executable, "-c", words], env=ENV)
        told.append(found.output)

    tracemalloc.start()
    try:
        await executor(paths, step("a", run)).install(PLAN, "base", KeptProgress())
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert set(told[0]) == {"x", end} - {""} or set(told[0]) == {"x", "\n"}
    assert 1 << 19 < len(told[0]) <= 1 << 20
    assert most < written * pieces / 2
    log = paths.logs / "install" / "thing" / "a.log"
    assert log.stat().st_size > written * pieces


async def test_a_step_over_its_time_ends_with_all_its_processes(paths: Paths) -> None:
    async def hangs(ctx: StepContext) -> None:
        await ctx.run_command(["sh", "-c", "sleep 600 & sleep 600"], env=ENV)

    with pytest.raises(Problems) as caught:
        await executor(paths, step("a", hangs, timeout=0.3)).install(PLAN, "base", KeptProgress())
    assert isinstance(caught.value.errors[0], StepTimeout)


async def test_a_program_over_its_time_and_a_full_disk_have_codes_of_their_own(
    paths: Paths,
) -> None:
    async def slow(ctx: StepContext) -> None:
        await ctx.run_command(["sh", "-c", "echo begun; sleep 600"], env=ENV, timeout=2)

    async def full(ctx: StepContext) -> None:
        await ctx.run_command(["sh", "-c", "cat /bin/sh > /dev/full"], env=ENV)

    async def full_too(ctx: StepContext) -> None:
        await asyncio.to_thread(Path("/dev/full").write_text, "x")

    steps = (step("a", slow), step("b", full), step("c", full_too))
    with pytest.raises(Problems) as caught:
        await executor(paths, *steps).install(PLAN, "base", KeptProgress())
    codes = sorted(error.code for error in caught.value.errors)
    assert codes == ["disk-full", "disk-full", "install-command-timeout"]
    assert "begun" in str(caught.value)


async def test_cancelling_leaves_nothing_running_and_the_step_undone(paths: Paths) -> None:
    started = asyncio.Event()

    class Listening(KeptProgress):
        def step(self, name: str, detail: str = "", *, done: int = 0, total: int = 0) -> None:  # noqa: ARG002
            if detail == "up":
                started.set()

    async def hangs(ctx: StepContext) -> None:
        await ctx.run_command(["sh", "-c", "sleep 600 & echo up; sleep 600"], env=ENV)

    run = executor(paths, step("a", hangs))
    task = asyncio.create_task(run.install(PLAN, "base", Listening()))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not run.steps(PLAN)[0][1]


async def test_secrets_reach_neither_log_nor_report(paths: Paths) -> None:
    async def says(ctx: StepContext) -> None:
        await ctx.run_command(["sh", "-c", "echo $TOKEN"], env=ENV | {"TOKEN": "s3cret-value"})

    sink = KeptProgress()
    await executor(paths, step("a", says), environ={"HF_TOKEN": "s3cret-value"}).install(
        PLAN, "base", sink
    )
    log = (paths.logs / "install/thing/a.log").read_text()
    assert "s3cret" not in log + "".join(sink.lines)
    assert "***" in log


KILLED = """
import asyncio, sys
from pathlib import Path
from machine_lifecycle.installers.execute import Executor
from machine_lifecycle.model.installing import Step
from machine_lifecycle.model.paths import Paths
from machine_lifecycle.model.plan import InstallPlan

root = Path(sys.argv[1])
class KeptProgress:
    def step(self, name, detail="", *, done=0, total=0):
        if detail.startswith("pid"):
            print(detail, flush=True)
    def finished(self, name, *, seconds, skipped=False):
        print(name, "skipped" if skipped else "finished", flush=True)
class Fixed:
    def plan(self, context):
        async def first(ctx):
            with (root / "first").open("a") as file:
                file.write("once\\n")
        async def second(ctx):
            script = "echo pid $$; exec sleep 600" if sys.argv[2] == "hang" else "true"
            await ctx.run_command(["sh", "-c", script], env={"PATH": "/usr/bin:/bin"})
        return (
            Step(id="first", summary="", fingerprint="1", run=first),
            Step(id="second", summary="", fingerprint="1", needs=("first",), run=second),
        )
paths = Paths(workspace=root / "ws", runtime=root / "rt")
run = Executor(paths, resolve=lambda _: Fixed())
asyncio.run(run.install(InstallPlan(service="thing", installer="fixed"), "base", KeptProgress()))
"""


async def test_after_kill_9_the_rest_is_done_and_leftovers_are_ended(tmp_path: Path) -> None:
    argv = (sys.executable, "-c", KILLED, str(tmp_path))
    first = await asyncio.create_subprocess_exec(*argv, "hang", stdout=asyncio.subprocess.PIPE)
    assert first.stdout is not None
    assert await first.stdout.readline() == b"first finished\n"
    left = int((await first.stdout.readline()).split()[1])
    first.send_signal(signal.SIGKILL)
    await first.wait()
    orphan = psutil.Process(left)  # it lives on, in a session of its own
    assert os.getsid(left) == left
    second = await asyncio.create_subprocess_exec(*argv, "go", stdout=asyncio.subprocess.PIPE)
    out, _ = await second.communicate()
    assert out == b"first skipped\nsecond finished\n"
    await asyncio.to_thread(psutil.wait_procs, [orphan], timeout=PATIENCE)
    assert not orphan.is_running() or orphan.status() == psutil.STATUS_ZOMBIE
    assert await asyncio.to_thread((tmp_path / "first").read_text) == "once\n"
