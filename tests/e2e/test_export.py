"""The exported files, run by the programs they are for: those that are on PATH, and a plain shell.

Each starts the same processes against a real Valkey; the health pages, which are one of them, say
when all is well, and a job is done. PM2, supervisord, honcho and systemd-analyze are left out by
name where they are not installed.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.outside import Outside, subreaper
from tests.support.pages import asked, until
from tests.support.patience import PATIENCE
from tests.support.ports import free_port
from tests.support.redis_server import ValkeyServer

Spawn = Callable[..., subprocess.Popen[bytes]]
GRAPH = {
    "1": {
        "class_type": "EmptyImage",
        "inputs": {"width": 64, "height": 48, "batch_size": 1, "color": 255},
    },
    "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "p"}},
}


@pytest.fixture
def redis() -> Iterator[ValkeyServer]:
    server = ValkeyServer()
    server.start()
    yield server
    server.close()


@pytest.fixture
def machine(redis: ValkeyServer) -> Iterator[Outside]:
    """A machine that is described and not started; whatever others start of it ends here."""
    with subreaper():
        outside = Outside(
            WORKERS="simulation:2", HUB_REDIS_URL=redis.url, MACHINE_HEALTH_PORT=str(free_port())
        )
        service = {
            "connector": "SimulationConnector",
            "limits": {"nofile": 777, "umask": "027"},
            "env_files": ["its own.env", "-not-there.env"],
        }
        mapping = {
            "services": {"simulation": service},
            "workers": {"simulation": {"services": ["simulation"]}},
        }
        path = outside.folder / "mapping.json"
        path.write_text(json.dumps(mapping), encoding="utf-8")
        outside.env["SERVICE_MAPPING_PATH"] = str(path)
        variables = Path(outside.env["WORKSPACE_PATH"]) / "its own.env"
        variables.parent.mkdir()
        variables.write_text("OF_A_FILE='a b'\nSIMULATION_PORT=1\n", encoding="utf-8")
        yield outside
        outside.close()


@pytest.fixture
def spawn(machine: Outside) -> Iterator[Spawn]:
    """Starts programs in the machine's environment, each with a file for what it says."""
    started: list[subprocess.Popen[bytes]] = []

    def start(name: str, *words: str) -> subprocess.Popen[bytes]:
        with (machine.folder / f"{name}.out").open("wb") as log:
            started.append(subprocess.Popen(words, env=machine.env, stdout=log, stderr=log))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait(PATIENCE)


def program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not on PATH")
    return found


def exported(machine: Outside, form: str) -> Path:
    out = machine.folder / "out"
    done = machine.call("export", form, "--out", str(out))
    assert done.returncode == 0, done.stderr
    assert "start: " in done.stdout
    password = machine.env["HUB_REDIS_URL"].split("@")[0].rpartition(":")[2]
    assert password
    for file in out.iterdir():
        assert password not in file.read_text(encoding="utf-8"), file.name
    return out


def said(machine: Outside, name: str) -> str:
    return (machine.folder / f"{name}.out").read_text(encoding="utf-8")


def page(machine: Outside, path: str, **how: str) -> tuple[int, Any]:
    return asked(f"http://127.0.0.1:{machine.env['MACHINE_HEALTH_PORT']}{path}", **how)


def serves(machine: Outside, said: Callable[[], str]) -> None:
    """It gets healthy, says so on every page, and does a job."""
    until(lambda: page(machine, "/health"), lambda answer: answer[0] == 200, said)
    _, status = page(machine, "/status")
    assert status["state"] == "ready"
    assert page(machine, "/ready")[0] == 200
    graph = machine.folder / "graph.json"
    graph.write_text(json.dumps(GRAPH), encoding="utf-8")
    done = machine.call("submit", str(graph), "--watch", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["status"] == "completed"
    has_its_own(machine)
    refused = machine.call("export", "pm2", "--print", HUB_REDIS_URL="", REDIS="embedded")
    assert refused.returncode == 2
    assert "export-needs-redis" in refused.stderr


def has_its_own(machine: Outside) -> None:
    """Each service has the variables and the limits that the mapping gives it."""
    found = [one for one in machine.running() if "machine_lifecycle.simulation" in one.cmdline()]
    services = [one for one in found if "MACHINE_CONTROL_SOCKET" not in one.environ()]
    assert len(services) == 2, [one.cmdline() for one in found]
    for service in services:
        assert service.environ()["OF_A_FILE"] == "a b"
        assert service.rlimit(psutil.RLIMIT_NOFILE) == (777, 777)
        status = Path(f"/proc/{service.pid}/status").read_text(encoding="ascii")
        assert "Umask:\t0027" in status


def left(machine: Outside) -> list[str]:
    """What still runs of the machine, when it had time to end."""
    running = machine.running()
    _, alive = psutil.wait_procs(running, timeout=PATIENCE)
    return [str(process) for process in alive]


def test_lines_of_a_procfile_are_commands_of_a_shell(machine: Outside, spawn: Spawn) -> None:
    out = exported(machine, "procfile")
    lines = (out / "Procfile").read_text(encoding="utf-8").splitlines()
    started = [
        spawn(name, "sh", "-c", command)
        for name, _, command in (line.partition(": ") for line in lines)
    ]
    assert len(started) == 5
    serves(machine, lambda: said(machine, "health-server"))

    # A service that dies is seen, and named. The machine goes on with the other one.
    started[1].send_signal(signal.SIGKILL)
    started[1].wait(PATIENCE)
    status = until(
        lambda: page(machine, "/status"), lambda answer: bool(answer[1]["conditions"]), machine.said
    )
    assert status["state"] == "ready", "it was ready once"
    assert "simulation-gpu0: connection refused" in json.dumps(status["conditions"])
    assert page(machine, "/health")[0] == 200
    for process in started:
        process.send_signal(signal.SIGTERM)
    ended = [process.wait(PATIENCE) for process in started]
    assert ended[0] == 0
    assert left(machine) == []


def test_pm2_runs_it(machine: Outside) -> None:
    pm2 = program("pm2")
    out = exported(machine, "pm2")
    env = machine.env | {"PM2_HOME": str(machine.folder / "pm2")}

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [pm2, *words], env=env, capture_output=True, text=True, timeout=PATIENCE, check=False
        )

    try:
        done = run("start", str(out / "ecosystem.config.js"))
        assert done.returncode == 0, done.stderr
        serves(machine, lambda: run("logs", "--nostream", "--lines", "20").stdout)
        listed = json.loads(run("jlist").stdout)
        assert len(listed) == 5
        assert {app["pm2_env"]["status"] for app in listed} == {"online"}
        assert {app["pm2_env"]["restart_time"] for app in listed} == {0}
    finally:
        run("kill")
    assert left(machine) == []


def test_supervisord_runs_it(machine: Outside, spawn: Spawn) -> None:
    supervisord = program("supervisord")
    out = exported(machine, "supervisord")
    config = machine.folder / "supervisord.conf"
    config.write_text(
        f"[supervisord]\nnodaemon=true\nlogfile={machine.folder}/supervisord.log\n"
        f"pidfile={machine.folder}/supervisord.pid\n[include]\nfiles={out}/machine-lifecycle.ini\n",
        encoding="utf-8",
    )
    started = spawn("supervisord", supervisord, "-c", str(config))
    serves(machine, lambda: said(machine, "supervisord"))
    started.send_signal(signal.SIGTERM)
    started.wait(PATIENCE)
    assert left(machine) == []


def test_honcho_runs_it(machine: Outside, spawn: Spawn) -> None:
    honcho = program("honcho")
    out = exported(machine, "procfile")
    started = spawn("honcho", honcho, "start", "-f", str(out / "Procfile"))
    serves(machine, lambda: said(machine, "honcho"))
    started.send_signal(signal.SIGTERM)
    started.wait(PATIENCE)
    assert left(machine) == []


@pytest.mark.parametrize("form", ["systemd", "systemd-processes"])
def test_systemd_takes_the_units(machine: Outside, form: str) -> None:
    analyze = program("systemd-analyze")
    out = exported(machine, form)
    units = sorted(str(path) for path in out.iterdir() if path.suffix in (".service", ".target"))
    assert len(units) == (1 if form == "systemd" else 6)
    done = subprocess.run(
        [analyze, "verify", *units], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    # Other units of this host may be broken; ours may not be named.
    ours = [line for line in done.stderr.splitlines() if "machine-" in line]
    assert ours == []
    if form == "systemd":
        assert "KillMode=process" in Path(units[0]).read_text(encoding="utf-8")
        return
    unit = (out / "machine-simulation-gpu0.service").read_text(encoding="utf-8")
    workspace = machine.env["WORKSPACE_PATH"]
    for line in (
        f"EnvironmentFile={workspace}/its own.env",
        f"EnvironmentFile=-{workspace}/not-there.env",
        "LimitNOFILE=777",
        "UMask=0027",
        "ExecStart=/usr/bin/env ",
    ):
        assert f"\n{line}" in unit


def test_a_compose_file_names_every_process_and_no_secret(machine: Outside) -> None:
    out = exported(machine, "compose")
    text = (out / "compose.yaml").read_text(encoding="utf-8")
    value = json.loads("".join(line for line in text.splitlines() if not line.startswith("#")))
    services = value["services"]
    assert len(services) == 5
    worker = services["redis-worker-simulation-0"]
    assert worker["environment"]["HUB_REDIS_URL"] == "${HUB_REDIS_URL:?set HUB_REDIS_URL}"
    assert worker["depends_on"] == ["simulation-gpu0"]
    service = services["simulation-gpu0"]
    assert service["entrypoint"][:2] == ["prlimit", "--nofile=777:777"]
    workspace = machine.env["WORKSPACE_PATH"]
    assert service["env_file"] == [
        {"path": f"{workspace}/its own.env", "required": True},
        {"path": f"{workspace}/not-there.env", "required": False},
    ]
    docker = shutil.which("docker")
    if docker is None:
        return
    done = subprocess.run(
        [docker, "compose", "-f", str(out / "compose.yaml"), "config", "--quiet"],
        env=os.environ | {"HUB_REDIS_URL": "redis://127.0.0.1", "IMAGE": "machine"},  # noqa: TID251
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    if "is not a docker command" not in done.stderr and "unknown" not in done.stderr:
        assert done.returncode == 0, done.stderr


def test_a_manifest_that_is_none_is_refused(machine: Outside) -> None:
    broken = machine.folder / "manifest.json"
    broken.write_text('{"version": 1, "machine_id": "x"}', encoding="utf-8")
    for path, words in ((broken, "it has no 'hardware'"), (broken.parent / "gone", "No such file")):
        done = machine.call("health-server", "--manifest", str(path))
        assert done.returncode == 2
        assert "manifest-unusable" in done.stderr
        assert words in done.stderr


def test_pages_of_another_supervisors_machine_restart_nothing(machine: Outside) -> None:
    out = exported(machine, "procfile")
    secret = {"MACHINE_HEALTH_TOKEN": "a-token"}
    words = ("health-server", "--manifest", str(out / "process-manifest.json"))
    machine.start(*words, **secret)
    path = "/restart/service?service=simulation-gpu0"
    answer = until(
        lambda: page(machine, path, token="a-token", method="POST"),
        lambda answer: answer[0] != 0,
        machine.said,
    )
    assert answer["code"] == "not-our-process"
    machine.signal(signal.SIGTERM)
    assert machine.wait() == 0
