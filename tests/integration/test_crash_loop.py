"""What the workspace remembers of earlier lives, and what a machine makes of it."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
from pathlib import Path
from typing import Any

import attrs
import pytest

from machine_lifecycle.assembly.crash_loop import CrashLoop, configuration_digest
from machine_lifecycle.lifecycle import events
from machine_lifecycle.model.settings import Settings
from machine_lifecycle.supervisor.identity import identify
from machine_lifecycle.supervisor.journal import Entry, Journal
from tests.support.gpu_memory import StillClock
from tests.support.outside import Outside
from tests.support.ports import free_port

STOPPED = events.MachineStopped(exit_code=3, reason="port 8188 is taken")
READY = events.MachineReady(seconds=1.0)


@attrs.define
class Heard:
    """A progress sink, and listeners to conditions."""

    steps: list[str] = attrs.field(factory=list)
    finished_after: list[float] = attrs.field(factory=list)
    conditions: dict[str, str] = attrs.field(factory=dict)

    def step(self, name: str, detail: str = "", **_: Any) -> None:
        """A step goes on."""
        self.steps.append(f"{name}: {detail}")

    def finished(self, name: str, *, seconds: float, skipped: bool = False) -> None:
        """A step ended."""
        assert (name, skipped) == ("crash loop", False)
        self.finished_after.append(seconds)

    def raised(self, kind: str, _: str, reason: str) -> None:
        """A condition."""
        self.conditions[kind] = reason

    def cleared(self, kind: str) -> None:
        """It holds no longer."""
        self.conditions.pop(kind, None)


@attrs.define
class Bed:
    """A workspace in which one life follows another."""

    folder: Path
    longest: float = 300.0
    heard: Heard = attrs.field(factory=Heard)

    @property
    def file(self) -> Path:
        """What is remembered."""
        return self.folder / "crash-loop.json"

    def life(self, digest: str = "d") -> CrashLoop:
        """The next one."""
        one = CrashLoop(
            path=self.file,
            journal=self.folder / "processes.json",
            longest=self.longest,
            clock=StillClock(),
            raise_condition=self.heard.raised,
            clear_condition=self.heard.cleared,
        )
        one.begin(digest)
        return one

    def fail(self, times: int) -> None:
        """So many lives that give up."""
        for _ in range(times):
            self.life().hear(STOPPED)


@pytest.fixture
def bed(tmp_path: Path) -> Bed:
    return Bed(tmp_path)


async def test_the_fourth_life_waits_as_a_step_that_is_seen(bed: Bed) -> None:
    bed.fail(4)
    await bed.life().wait(bed.heard)
    assert bed.heard.finished_after == [10]
    assert "4 lives in a row failed, the last one: port 8188 is taken" in bed.heard.steps[0]
    assert "begins in 10 s" in bed.heard.steps[0]
    assert "port 8188 is taken" in bed.heard.conditions["crash_loop"]


async def test_a_long_wait_is_told_of_again_and_again(bed: Bed) -> None:
    bed.fail(7)
    await bed.life().wait(bed.heard)
    assert bed.heard.finished_after == [80]
    assert len(bed.heard.steps) == 8


async def test_two_failures_are_told_and_cost_nothing(bed: Bed) -> None:
    bed.fail(2)
    await bed.life().wait(bed.heard)
    assert bed.heard.steps == []
    assert "crash_loop" in bed.heard.conditions


async def test_lives_that_ended_without_a_word_count(bed: Bed) -> None:
    for _ in range(4):
        last = bed.life()
    await last.wait(bed.heard)
    assert "3 lives" in bed.heard.steps[0]
    assert "without a word" in bed.heard.steps[0]


async def test_processes_that_live_on_are_not_kept_waiting_for(bed: Bed) -> None:
    bed.fail(4)
    us = identify(os.getpid())
    assert us
    entry = Entry(name="p", token="t", pid=us.pid, created=us.created, boot=us.boot)
    Journal(bed.folder / "processes.json").write({"p": entry})
    await bed.life().wait(bed.heard)
    assert bed.heard.steps == []


async def test_it_can_be_turned_off(bed: Bed) -> None:
    bed.longest = 0
    bed.fail(9)
    await bed.life().wait(bed.heard)
    assert bed.heard.steps == []


async def test_a_machine_that_stayed_ready_is_healed(bed: Bed) -> None:
    bed.fail(3)
    life = bed.life()
    await life.wait(bed.heard)
    life.hear(READY)
    assert life._healing is not None
    due = life._healing.when() - asyncio.get_running_loop().time()
    assert 595 < due <= 600
    life._healing._run()
    assert "crash_loop" not in bed.heard.conditions
    life.close()
    assert bed.life().past.failures == 1  # it was killed then, and that counts


async def test_the_file_is_for_its_owner_alone_and_holds_no_secret(bed: Bed) -> None:
    settings = Settings(redis_url="redis://:hush-hush@127.0.0.1/0", webhook_secret="hush-hush")
    bed.life(configuration_digest(settings)).hear(STOPPED)
    assert bed.file.stat().st_mode & 0o777 == 0o600
    assert "hush" not in bed.file.read_text()


def test_what_a_setting_says_counts_and_so_does_the_file_it_names(tmp_path: Path) -> None:
    mapping = tmp_path / "mapping.json"
    mapping.write_text("{}")
    settings = Settings(service_mapping=mapping)
    first = configuration_digest(settings)
    assert configuration_digest(settings) == first
    assert configuration_digest(attrs.evolve(settings, boot_attempts=9)) != first
    mapping.write_text('{"workers": {}}')
    assert configuration_digest(settings) != first


@pytest.mark.parametrize(
    "content",
    ["{", "[]", "{}", '{"version": 2}', '{"version": 1, "failures": -1}', '"\\ud800"', "\0"],
)
async def test_a_file_that_cannot_be_read_is_put_aside_and_said(
    bed: Bed, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    bed.file.write_text(content)
    with caplog.at_level(logging.ERROR, "machine_lifecycle.machine"):
        life = bed.life()
    assert life.past.failures == 0
    assert [one.read_text() for one in bed.folder.glob("*.corrupt-*")] == [content]
    assert "kept as" in caplog.text
    assert json.loads(bed.file.read_text())["open"] is True


def test_a_container_that_starts_again_and_again_slows_down() -> None:
    """A machine that gives up for the same reason each time, in one workspace."""
    machine = Outside(MACHINE_CRASH_BACKOFF_MAX="0.5")
    stranger = socket.create_server(("127.0.0.1", int(machine.env["SIMULATION_BASE_PORT"])))
    try:
        for _ in range(3):
            assert machine.start().wait() == 3
            assert "crash loop" not in {event.get("step") for event in machine.events}
        machine.start()
        told = machine.until("step_progressed", step="crash loop")
        assert "3 lives in a row failed" in told["detail"]
        assert machine.until("step_finished", step="crash loop")["seconds"] >= 0.5
        assert machine.wait() == 3
        assert "crash_loop" in {event.get("condition") for event in machine.events}
        machine.start(SIMULATION_BASE_PORT=str(free_port(count=8)))  # another configuration
        machine.until("machine_ready")
        assert "crash loop" not in {event.get("step") for event in machine.events}
        machine.signal(signal.SIGTERM)
        assert machine.wait() == 0
    finally:
        stranger.close()
        machine.close()
