"""Commands to a running machine, as child processes before a real control socket."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from machine_lifecycle.control.links import Links
from machine_lifecycle.control.server import ControlServer
from machine_lifecycle.model.figures import Figures
from machine_lifecycle.model.processes import ProcessState, ProcessStatus, Role
from machine_lifecycle.model.settings import Settings
from machine_lifecycle.model.status import StateTiming, StatusReport
from machine_lifecycle.system.folders import find_paths


class _Machine:
    def __init__(self) -> None:
        self.state = "ready"
        self.done: list[str] = []
        self.cause = "no disk"
        self.down = asyncio.Event()

    def report(self) -> StatusReport:
        process = ProcessStatus(
            name="comfyui-gpu0",
            role=Role.SERVICE,
            state=ProcessState.RUNNING,
            pid=42,
            port=8188,
            since=1.0,
            waiting_for="[GET /x]",
        )
        return StatusReport(
            machine_id="box",
            version="9",
            state=self.state,
            phase="ready",
            since=1.0,
            uptime=2.0,
            attempt=1,
            pid=7,
            processes=(process,),
            timings=(
                StateTiming(state="starting", attempt=1, started=1.0, seconds=1.5),
                StateTiming(state="health_check", attempt=1, started=2.5, seconds=1.0),
                StateTiming(state="ready", attempt=1, started=3.5, seconds=None),
            ),
            failure={"code": "c", "summary": self.cause, "remedies": [{"text": "buy one"}]}
            if self.state == "failed"
            else None,
        )

    async def figures(self) -> Mapping[int, Figures]:
        return {42: Figures(cpu_percent=1.0, memory_bytes=2048)}

    async def logs(
        self, names: Sequence[str], lines: int, *, since: float | None, follow: bool
    ) -> AsyncIterator[tuple[float, str, str]]:
        assert not follow
        for name in names:
            for number in range(lines):
                yield since or 7.0, name, f"line {number}"

    async def events(self) -> AsyncIterator[Mapping[str, Any]]:
        await self.down.wait()
        yield {"kind": "changed", "source": "stopping", "target": "stopped"}

    async def restart_process(self, name: str) -> None:
        self.done.append(f"restart {name}")

    async def stop_process(self, name: str) -> None:
        self.done.append(f"stop {name}")

    async def start_process(self, name: str) -> None:
        self.done.append(f"start {name}")

    def signal_process(self, name: str, number: int) -> None:
        self.done.append(f"signal {name} {number}")

    async def reload(self) -> Mapping[str, Any]:
        return {"added": ["a"], "changed": [], "removed": [], "same": ["s"], "later": ["LATER"]}

    def shutdown(self) -> None:
        self.done.append("shutdown")
        self.down.set()

    async def drain(self) -> None:
        self.done.append("drain")

    async def undrain(self) -> None:
        self.done.append("undrain")


@pytest.fixture
def env() -> Iterator[dict[str, str]]:
    folder = tempfile.mkdtemp(prefix="ml-", dir="/tmp")
    inherited = dict(os.environ)  # noqa: TID251 - a child needs PATH and HOME
    yield {**inherited, "MACHINE_RUNTIME_DIR": folder, "WORKSPACE_PATH": f"{folder}/w"}
    shutil.rmtree(folder)


@pytest_asyncio.fixture
async def machine(env: dict[str, str]) -> AsyncIterator[_Machine]:
    """Listens on the control socket of the machine that *env* describes."""
    runtime, workspace = Path(env["MACHINE_RUNTIME_DIR"]), Path(env["WORKSPACE_PATH"])
    settings = Settings(runtime_dir=runtime, workspace=workspace)
    made = _Machine()
    server = ControlServer(find_paths(settings, env).control_socket, made, Links())
    await server.start()
    yield made
    await server.close()


async def _run(env: dict[str, str], *args: str) -> tuple[int | None, str]:
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "machine_lifecycle", *args),
        env=env,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await child.communicate()
    return child.returncode, output.decode()


async def test_commands(env: dict[str, str], machine: _Machine) -> None:
    code, text = await _run(env, "ps")
    assert code == 0
    for word in ("comfyui-gpu0", "running", "8188", "2.0 KiB", "[GET /x]"):
        assert word in text
    code, text = await _run(env, "ps", "--json")
    assert json.loads(text)[0]["figures"]["memory_bytes"] == 2048
    code, text = await _run(env, "logs", "-n", "2")
    assert text == "comfyui-gpu0 | line 0\ncomfyui-gpu0 | line 1\n"
    code, text = await _run(env, "logs", "-n", "1", "comfyui-gpu0")
    assert text == "line 0\n"
    code, text = await _run(env, "logs", "--json", "--since", "2026-01-31T08:00+00:00", "-n1")
    assert json.loads(text)["time"] == 1769846400
    code, text = await _run(env, "logs", "--since", "yesterday")
    assert code == 2
    assert "neither a span" in text
    code, text = await _run(env, "restart", "no")
    assert code == 2
    assert "process-unknown" in text
    assert "comfyui-gpu0" in text
    assert (await _run(env, "drain"))[0] == 0
    code, text = await _run(env, "status")
    assert "ready 2.5 s after the start" in text
    assert code == 0
    assert "ready" in text
    assert "1.5 s" in text
    machine.state = "failed"
    code, text = await _run(env, "status")
    assert code == 3
    assert "no disk" in text
    assert "buy one" in text
    code, text = await _run(env, "stop")
    assert code == 0
    assert "stopped in" in text
    assert machine.done == ["drain", "shutdown"]


@pytest.mark.parametrize("command", ["restart", "stop", "start"])
async def test_a_process_that_is_none_holds_up_no_other(
    env: dict[str, str], machine: _Machine, command: str
) -> None:
    code, text = await _run(env, command, "no", "comfyui-gpu0", "neither", "comfyui-gpu0")
    assert code == 2
    assert machine.done == [f"{command} comfyui-gpu0"]
    assert text.count("[process-unknown]") == 2
    assert "comfyui-gpu0 st" in text or "comfyui-gpu0 restarts" in text


async def test_half_a_character_breaks_nothing(env: dict[str, str], machine: _Machine) -> None:
    """Services cut their words anywhere, and JSON takes it."""
    machine.state, machine.cause = "failed", "cut: \ud83d"
    code, text = await _run(env, "status")
    assert code == 3
    assert r"cut: \ud83d" in text
    code, text = await _run(env, "status", "--json")
    assert code == 3
    assert json.loads(text)["failure"]["summary"] == machine.cause


async def test_without_a_machine_there_is_a_remedy(env: dict[str, str]) -> None:
    code, text = await _run(env, "ps")
    assert code == 3
    assert "machine-not-running" in text
    assert "machine-lifecycle boot" in text


async def test_steering(env: dict[str, str], machine: _Machine) -> None:
    one = "comfyui-gpu0"
    for args in (("restart", one), ("stop", one), ("start", one)):
        assert (await _run(env, *args))[0] == 0
    for written in ("HUP", "SIGHUP", "1", "hup"):
        assert (await _run(env, "signal", one, written))[0] == 0
    code, text = await _run(env, "signal", one, "SIGHOP")
    assert code == 2
    assert "there is no signal 'SIGHOP'. Did you mean 'SIGHUP'?" in text
    code, text = await _run(env, "reload")
    assert text == "added: a\nleft alone: s\nfrom the next start of the machine on: LATER\n"
    assert json.loads((await _run(env, "reload", "--json"))[1])["same"] == ["s"]
    completing = {"_MACHINE_LIFECYCLE_COMPLETE": "bash_complete", "COMP_CWORD": "2"}
    for line, found in (
        ("machine-lifecycle restart com", "comfyui-gpu0"),
        ("machine-lifecycle restart zzz", ""),
        ("machine-lifecycle rel", "reload"),
    ):
        words = {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split()) - 1)}
        code, text = await _run({**env, **completing, **words})
        assert [row.split(",")[1] for row in text.split()] == ([found] if found else [])
    steered = [f"{word} {one}" for word in ("restart", "stop", "start")]
    assert machine.done == [*steered, *[f"signal {one} 1"] * 4]
