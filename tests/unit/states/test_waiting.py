"""How far a state is that waits for several processes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from machine_lifecycle.model.processes import Command, ProcessSpec, Role
from machine_lifecycle.model.progress import ProgressSink
from machine_lifecycle.states.context import Context
from machine_lifecycle.states.waiting import wait_for_enough


class _Heard:
    def __init__(self) -> None:
        self.steps: list[tuple[str, int, int]] = []
        self.ready: list[str] = []

    def step(self, name: str, _detail: str = "", *, done: int = 0, total: int = 0) -> None:
        self.steps.append((name, done, total))

    def finished(self, name: str, *, seconds: float, skipped: bool = False) -> None:
        assert seconds == 1.5
        assert not skipped
        self.ready.append(name)


class _Supervisor:
    """Each process is waited for alone, and is ready at once."""

    async def wait_ready(self, names: Sequence[str], progress: ProgressSink) -> None:
        (name,) = names
        progress.step(name, "starts", done=0, total=1)
        progress.finished(name, seconds=1.5)


class _Context:
    def __init__(self) -> None:
        self.supervisor = _Supervisor()
        self.progress = _Heard()


async def test_each_process_counts_once_among_all_that_are_waited_for() -> None:
    names = ("comfyui-gpu0", "comfyui-gpu1", "comfyui-gpu2")
    specs = [
        ProcessSpec(name=name, role=Role.SERVICE, command=Command(argv=("true",))) for name in names
    ]
    context = _Context()
    await wait_for_enough(cast("Context", cast("Any", context)), specs, "services")
    assert context.progress.steps == [(name, number, 3) for number, name in enumerate(names)]
    assert context.progress.ready == list(names)
