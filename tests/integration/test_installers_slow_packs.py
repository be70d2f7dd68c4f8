"""Packs that take too long: gone on without, ended whole, while required ones are waited for."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import psutil
import pytest

from machine_lifecycle.installers.errors import PackTimeout
from machine_lifecycle.installers.execute import Executor
from machine_lifecycle.model.choices import LockMode
from tests.support.comfyui_bed import PLAN, Bed, make_bed
from tests.support.git_server import Fault, Origin, git_server
from tests.support.progress import KeptProgress

PATIENCE = 1.0
"""Seconds. What must be in meanwhile is required, so that a slow machine loses none of it."""


@attrs.frozen
class Host:
    """A git host that takes a question for some packs and does not answer it until it is told."""

    address: str
    answers: dict[str, threading.Event]

    def node(self, name: str, **more: Any) -> dict[str, Any]:
        return {"name": name, "url": f"http://{self.address}/{name}", **more}


@pytest.fixture
def bed(tmp_path: Path) -> Bed:
    return make_bed(tmp_path)


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    answers = {name: threading.Event() for name in ("Slow", "Kept")}

    def stall(path: str, _body: bytes) -> Fault | None:
        name = path.split("/")[1]
        if name in answers:
            answers[name].wait()
        return None

    for name in ("Slow", "Kept"):
        Origin(tmp_path / "served" / name, __init____py="")
    with contextlib.ExitStack() as stack:
        for event in answers.values():
            stack.callback(event.set)
        yield Host(
            stack.enter_context(git_server(tmp_path / "served", fault=stall)),
            answers,
        )


class Telling(KeptProgress):
    """Calls somebody when a line is told that has certain words."""

    def __init__(self, words: str, call: Callable[[], None]) -> None:
        super().__init__()
        self._words = words
        self._call = call

    def step(self, name: str, detail: str = "", *, done: int = 0, total: int = 0) -> None:
        super().step(name, detail, done=done, total=total)
        if self._words in self.lines[-1]:
            self._call()


async def install(run: Executor, progress: KeptProgress) -> None:
    for stage in ("lock", "base", "nodes"):
        await run.install(PLAN, stage, progress)


def left_running(root: Path) -> list[str]:
    """Programs that work in a folder."""
    found = []
    for one in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            words = " ".join(one.cmdline())
            if str(root) in words and one.pid != psutil.Process().pid:
                found.append(words)
    return found


async def test_a_stalled_host_costs_its_optional_pack_and_a_required_one_is_waited_for(
    bed: Bed, host: Host
) -> None:
    nodes = [host.node("Slow"), host.node("Kept", required=True)]
    more = {"packs_timeout": PATIENCE, "comfyui_lock": LockMode.OFF}
    run = bed.executor(*nodes, **more)
    told = Telling("Slow was not in within", host.answers["Kept"].set)
    await install(run, told)  # which ends only since Kept is answered once Slow was given up

    (failed,) = run.failures
    assert failed.subject == "Slow"
    assert isinstance(failed.error, PackTimeout)
    assert "MACHINE_PACKS_TIMEOUT" in failed.error.summary
    assert f"export MACHINE_PACKS_TIMEOUT={2 * PATIENCE:g}" in str(failed.error.remedies)
    packs = bed.home / "custom_nodes"
    assert sorted(path.name for path in packs.iterdir()) == ["Kept"]
    assert left_running(packs) == []
    assert not list(bed.root.rglob("custom_nodes/.*")), "nothing is there by halves"

    host.answers["Slow"].set()
    again = bed.executor(*nodes, comfyui_lock=LockMode.OFF)
    await install(again, KeptProgress())
    assert again.failures == ()
    assert (packs / "Slow" / "__init__.py").exists()


async def test_a_lock_is_made_without_what_a_stalled_host_has(bed: Bed, host: Host) -> None:
    nodes = [host.node("Slow"), host.node("Kept", required=True)]
    run = bed.executor(*nodes, packs_timeout=PATIENCE)
    host.answers["Kept"].set()
    told = KeptProgress()
    await install(run, told)
    assert any("! pack Slow" in line for line in told.lines), "\n".join(told.lines)
    (failed,) = run.failures
    assert (failed.subject, failed.error and failed.error.code) == ("Slow", "lock-pack-left-out")
    assert "not had within 1.0 s (MACHINE_PACKS_TIMEOUT)" in str(failed.error)
    assert left_running(bed.root / "served") == []

    host.answers["Slow"].set()
    again = bed.executor(*nodes)
    await install(again, KeptProgress())
    assert again.failures == ()


async def test_a_script_that_is_cut_short_leaves_torch_as_it_was(bed: Bed, tmp_path: Path) -> None:
    moves = f"rm -r {bed.home}/venv/lib/python*/site-packages/torch-2.0.dist-info"
    hangs = f"{moves} && touch {tmp_path}/moved && sleep 600"
    node = {"name": "Slow", "url": bed.pack("slow", __init____py="")}
    await install(bed.executor(node, comfyui_lock=LockMode.OFF), KeptProgress())
    # All but the script is done: the time is the script's alone.
    node["custom_script"] = hangs
    run = bed.executor(node, packs_timeout=5.0, comfyui_lock=LockMode.OFF)
    await install(run, KeptProgress())
    assert (tmp_path / "moved").exists()
    (failed,) = run.failures
    assert isinstance(failed.error, PackTimeout)
    assert "torch" in failed.error.context[-1]
    assert left_running(tmp_path) == []
    assert [path.name for path in bed.site.glob("torch-*")] == ["torch-2.0.dist-info"]


async def test_what_waits_for_its_turn_is_given_up_too_and_a_required_pack_is_not(
    bed: Bed, tmp_path: Path
) -> None:
    slow = {"url": bed.pack("slow", __init____py=""), "custom_script": "sleep 600"}
    kept = {"name": "Kept", "url": bed.pack("kept", __init____py=""), "required": True}
    nodes = [{"name": "One", **slow}, {"name": "Two", **slow}]
    kept["custom_script"] = f"touch {tmp_path}/ran"
    run = bed.executor(*nodes, kept, packs_timeout=PATIENCE, comfyui_lock=LockMode.OFF)
    await install(run, KeptProgress())
    assert {one.subject: one.error and one.error.code for one in run.failures} == {
        "One": "install-pack-timeout",
        "Two": "install-pack-timeout",
    }
    assert (tmp_path / "ran").exists()


async def test_without_a_limit_a_pack_may_take_its_time(bed: Bed, host: Host) -> None:
    run = bed.executor(host.node("Slow"), packs_timeout=0.0, comfyui_lock=LockMode.OFF)
    told = Telling("node Slow clone: node pack Slow", host.answers["Slow"].set)
    await install(run, told)
    assert run.failures == ()
