"""What holds for every test: it leaves no process, descriptor, thread or task behind."""

from __future__ import annotations

import asyncio
import gc
import inspect
import os
import signal
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psutil
import pytest
import pytest_asyncio
from hypothesis import HealthCheck, settings

from tests.support.patience import PATIENCE

# A shell has SIGINT ignored by what it starts in the background, and all of that's children.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# How long an example takes depends on what else runs: nothing that a property is about.
settings.register_profile("facts", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("facts")

_FDS = next((path for path in ("/proc/self/fd", "/dev/fd") if Path(path).is_dir()), "")

# Targets of descriptors that libraries open once and keep for the life of the program.
_KEPT = (
    "/dev/urandom",  # the interpreter's fallback source of random numbers
    "/dev/null",  # logging and faulthandler of pytest
    "/dev/nvidia",  # the NVIDIA driver, opened by the first NVML call
)


_PF_ENDING = 0x4 | 0x400  # PF_EXITING, PF_SIGNALED: include/linux/sched.h
_PENDING = ("SigPnd", "ShdPnd")


def _descriptors() -> dict[str, str]:
    """Open descriptors of this process, and what each is open on."""
    found = {}
    for name in os.listdir(_FDS) if _FDS else ():  # noqa: PTH208 - around every test: 3x as fast
        try:
            target = os.readlink(f"{_FDS}/{name}")  # noqa: PTH115 - likewise
        except OSError:  # the descriptor by which the folder was listed; or no links on this system
            continue
        if not target.startswith(_KEPT):
            found[name] = target
    return found


def _has_children() -> bool:
    """Whether this process has any child; cheap, since it is asked after each test."""
    try:
        return any(
            Path(f"/proc/self/task/{thread}/children").read_bytes()
            for thread in os.listdir("/proc/self/task")  # noqa: PTH208 - around every test
        )
    except OSError:  # not Linux, or a kernel without CONFIG_PROC_CHILDREN
        return bool(psutil.Process().children())


def _children() -> set[psutil.Process]:
    return set(psutil.Process().children(recursive=True)) if _has_children() else set()


def _described(process: psutil.Process) -> str:
    try:
        words = " ".join(process.cmdline()) or process.name()
        return f"process {process.pid} ({process.status()}): {words[:200]}"
    except psutil.NoSuchProcess:
        return ""


def _leaked_threads(before: set[threading.Thread]) -> list[str]:
    leaked = []
    for thread in set(threading.enumerate()) - before:
        # One that is just returning from its target is no leak: it ends within this wait.
        thread.join(timeout=10)
        leaked += [f"thread {thread.name}"] if thread.is_alive() else []
    return leaked


def _is_ending(process: psutil.Process) -> bool:
    """Whether the kernel ends it, or is about to: SIGKILL needs a moment where much is to do."""
    try:
        stat = Path(f"/proc/{process.pid}/stat").read_text(encoding="utf-8")
        status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
    except OSError:  # it is gone; or not Linux
        return False
    if int(stat.rpartition(")")[2].split()[6]) & _PF_ENDING:
        return True
    pending = (line.split()[1] for line in status.splitlines() if line[:6] in _PENDING)
    return any(int(mask, 16) >> (signal.SIGKILL - 1) & 1 for mask in pending)


def _leaked_processes(before: set[psutil.Process]) -> list[str]:
    leaked = _children() - before
    psutil.wait_procs([one for one in leaked if _is_ending(one)], timeout=PATIENCE)
    descriptions = [text for process in leaked if (text := _described(process))]
    for process in leaked:  # the tests that follow must not suffer from this one
        try:
            process.kill()
            process.wait(5)
        except psutil.Error:
            continue
    return descriptions


def _leaked_descriptors(before: dict[str, str]) -> list[str]:
    def new() -> list[str]:
        # By number and target: a closed and reused number is a new descriptor all the same.
        now = _descriptors()
        surplus = len(now) - len(before)
        fresh = [f"descriptor {fd}: {to}" for fd, to in now.items() if before.get(fd) != to]
        return fresh if surplus > 0 else []

    if not new():
        return []
    gc.collect()  # descriptors of objects in reference cycles are closed by this
    return new()


@pytest.fixture(autouse=True)
def _leaves_nothing_behind() -> Iterator[None]:
    """Fail a test that leaks; runs around all its other fixtures but those of wider scope."""
    threads = set(threading.enumerate())
    descriptors = _descriptors()
    processes = _children()
    yield
    leaked = _leaked_threads(threads)
    leaked += _leaked_processes(processes)
    leaked += _leaked_descriptors(descriptors)
    if leaked:
        pytest.fail("the test left behind:\n  " + "\n  ".join(sorted(leaked)), pytrace=False)


@pytest_asyncio.fixture
async def _leaves_no_task_behind() -> AsyncIterator[None]:
    """Fail a coroutine test after which a task still runs; added to all of them below."""
    yield
    for _ in range(10):  # turns of the loop: callbacks and cancellations already under way
        leaked = asyncio.all_tasks() - {asyncio.current_task()}
        if not leaked:
            return
        await asyncio.sleep(0)
    names = "\n  ".join(sorted(repr(task) for task in leaked))
    pytest.fail(f"the test left tasks running:\n  {names}", pytrace=False)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Check tasks around every coroutine test, outside of its other asynchronous fixtures."""
    for item in items:
        if isinstance(item, pytest.Function) and inspect.iscoroutinefunction(item.function):
            outermost = item.fixturenames.index("_leaves_nothing_behind")
            item.fixturenames.insert(outermost + 1, "_leaves_no_task_behind")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """How many processes ``-n auto`` makes: two for the whole suite where there are two cores.

    Much of the time goes to waiting for other processes, so two keep two cores busy; with more,
    each test takes longer. Some tests alone, or output that is to be seen at once, take none.
    """
    asked = config.option
    whole = config.args_source is pytest.Config.ArgsSource.TESTPATHS
    everything = whole and not asked.keyword and asked.markexpr == "not real and not browser"
    return 2 if everything and asked.capture != "no" and _cores() > 1 else 0


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
