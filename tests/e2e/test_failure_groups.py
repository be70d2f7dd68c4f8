"""Every cause that people meet, made for real, told alike wherever somebody looks.

Each makes a machine fail as its user would see it: the same code and remedies on the terminal, on
the status page, in the events, and in Redis where there is one.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import attrs
import pytest

from machine_lifecycle.system.network import free_port
from machine_lifecycle.system.valkey import read_discovery
from tests.support.comfyui_bed import make_bed
from tests.support.git_server import Origin, git_server, self_signed
from tests.support.outside import Outside, machines
from tests.support.redis_server import ValkeyServer

pytestmark = pytest.mark.timeout(120)


@attrs.frozen
class Cause:
    """What is wrong with a machine."""

    code: str
    settings: dict[str, str]
    remedy: str
    """Words of a remedy that can be pasted."""
    exit_code: int = 3


Make = Callable[[Path, ExitStack], Cause]


def comfyui(folder: Path, **settings: str) -> dict[str, str]:
    """A machine with ComfyUI from local repositories and wheels."""
    bed = make_bed(folder / "bed")
    return {
        **bed.environ,
        "WORKERS": "comfyui:1",
        "GPU_MODE": "mock",
        "MOCK_GPU_NUM": "1",
        "REDIS": "embedded",
        "COMFYUI_BASE_PORT": str(free_port(count=8)),
        "COMFYUI_REPO_URL": str(bed.root / "origin"),
        "TORCH_BACKEND": "none",
        **settings,
    }


# 1 Installation


def dead_url(folder: Path, _: ExitStack) -> Cause:
    url = f"http://127.0.0.1:{free_port()}/ComfyUI.git"
    settings = comfyui(folder, COMFYUI_REPO_URL=url)
    return Cause("git-clone-failed", settings, f"git ls-remote {url}")


def refused_certificate(folder: Path, stack: ExitStack) -> Cause:
    Origin(folder / "served" / "ComfyUI", main__py="")
    at = stack.enter_context(git_server(folder / "served", tls=self_signed(folder)))
    settings = comfyui(folder, COMFYUI_REPO_URL=f"https://{at}/ComfyUI")
    return Cause("git-clone-failed", settings, "GIT_SSL_CAINFO")


def conflicting_requirement(folder: Path, _: ExitStack) -> Cause:
    settings = comfyui(folder)
    Origin(folder / "greedy", main__py="", requirements__txt="torch==2.0\ngreedy\n")
    settings["COMFYUI_REPO_URL"] = str(folder / "greedy")
    return Cause("packages-failed", settings, "")


def full_disk(folder: Path, stack: ExitStack) -> Cause:
    small = folder / "small"
    small.mkdir()
    mount = ["/bin/mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", str(small)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here")
    stack.callback(subprocess.run, ["/bin/umount", str(small)], check=True)
    Origin(folder / "large", main__py="", big__txt=os.urandom(40 << 20).hex())
    settings = comfyui(folder, WORKSPACE_PATH=str(small / "w"))
    settings["COMFYUI_REPO_URL"] = str(folder / "large")
    return Cause("disk-full", settings, "df -h")


# 2 Node packs: a failed one is no failure of the boot; see tests/e2e/test_packs.py

# 3 ComfyUI won't start


def no_gpu(_: Path, __: ExitStack) -> Cause:
    settings = {"WORKERS": "comfyui:1", "REDIS": "embedded", "CUDA_VISIBLE_DEVICES": ""}
    return Cause("no-gpu", settings, "nvidia-smi --list-gpus", exit_code=2)


def taken_port(_: Path, stack: ExitStack) -> Cause:
    taker = stack.enter_context(socket.socket())
    taker.bind(("127.0.0.1", 0))
    taker.listen()
    port = str(taker.getsockname()[1])
    return Cause("port-taken", {"SIMULATION_BASE_PORT": port}, f"sport = :{port}")


def wrong_model_path(folder: Path, _: ExitStack) -> Cause:
    in_the_way = folder / "models"
    in_the_way.write_text("", encoding="utf-8")
    settings = comfyui(folder, COMFYUI_MODELS_PATH=str(in_the_way / "mine"))
    return Cause("models-folder-unusable", settings, f"ls -ld {in_the_way}", exit_code=2)


# 4 Workers can't connect


def redis_away(_: Path, __: ExitStack) -> Cause:
    port = free_port()
    settings = {"HUB_REDIS_URL": f"redis://127.0.0.1:{port}"}
    return Cause("redis-unreachable", settings, f"redis-cli -h 127.0.0.1 -p {port} ping")


def wrong_password(_: Path, stack: ExitStack) -> Cause:
    server = ValkeyServer()
    server.start()
    stack.callback(server.close)
    wrong = server.url.replace(server.url.split("@")[0].rpartition(":")[2], "wrong")
    return Cause("redis-auth", {"HUB_REDIS_URL": wrong}, "HUB_REDIS_URL", exit_code=2)


def connector_missing(folder: Path, _: ExitStack) -> Cause:
    mapping = {
        "workers": {
            "mine": {
                "services": ["mine"],
                "job_service_required_map": [
                    {"job_service_required": "mine", "worker_service": "mine"}
                ],
            }
        },
        "services": {"mine": {"connector": "NobodysConnector", "type": "external"}},
    }
    path = folder / "mapping.json"
    path.write_text(json.dumps(mapping), encoding="utf-8")
    settings = {"WORKERS": "mine:1", "SERVICE_MAPPING_PATH": str(path), "REDIS": "embedded"}
    return Cause("service-unknown", settings, "machine-lifecycle services", exit_code=2)


# 5 Health checks fail


def never_ready(_: Path, __: ExitStack) -> Cause:
    settings = {
        "SIMULATION_READY_DELAY_MS": "600000",
        "MACHINE_STATE_CAPS": "services_starting=1",
    }
    return Cause("state-too-long", settings, "export MACHINE_STATE_CAPS=services_starting=2")


CAUSES = (
    *(dead_url, refused_certificate, conflicting_requirement, full_disk),
    *(no_gpu, taken_port, wrong_model_path),
    *(redis_away, wrong_password, connector_missing, never_ready),
)


@pytest.fixture
def outside() -> Iterator[Callable[..., Outside]]:
    with machines() as make:
        yield make


@pytest.fixture
def made(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Cause]:
    make: Make = request.param
    with ExitStack() as stack:
        yield make(tmp_path, stack)


def each() -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        "made", CAUSES, indirect=True, ids=[make.__name__ for make in CAUSES]
    )


def in_error(wire: dict[str, Any]) -> list[dict[str, Any]]:
    """The single errors in one's wire form."""
    return wire.get("errors") or [wire]


def hold_to(cause: Cause, wire: dict[str, Any], where: str) -> None:
    codes = [part["code"] for part in in_error(wire)]
    assert cause.code in codes, (where, wire)
    part = in_error(wire)[codes.index(cause.code)]
    told = json.dumps(part["remedies"])
    assert part["remedies"], where
    assert cause.remedy in told, (where, told)


@each()
def test_a_cause_is_told_alike_wherever_somebody_looks(
    made: Cause, outside: Callable[..., Outside]
) -> None:
    machine = outside(**made.settings, ON_FAILED="stay", MACHINE_BOOT_ATTEMPTS="1")
    machine.start()
    event = machine.until("machine_failed")
    hold_to(made, event["error"], "event")
    report = json.loads(machine.call("status", "--json").stdout)
    assert report["state"] == "failed"
    hold_to(made, report["failure"], "status")
    shown = machine.call("status").stdout
    assert made.code in shown
    if made.remedy:
        assert made.remedy in shown.replace("\n", "")
    if report["redis_connected"] and not made.settings.get("HUB_REDIS_URL"):
        stored = stream(machine)
        hold_to(made, next(e for e in stored if e["kind"] == "machine_failed")["error"], "redis")
    explained = machine.call("explain", made.code)
    assert explained.returncode == 0
    machine.signal(signal.SIGTERM)
    machine.wait()


def stream(machine: Outside) -> list[dict[str, Any]]:
    """The events of the machine that are in Redis, read by a program of its own."""
    url = read_discovery_url(machine)
    program = (
        "import json, sys\n"
        "from redis import Redis\n"
        "redis = Redis.from_url(sys.argv[1], decode_responses=True)\n"
        "print(json.dumps([json.loads(e['event']) for _, e in redis.xrange(sys.argv[2])]))\n"
    )
    words = [sys.executable, "-c", program, url, f"machine:{machine.id}:events"]
    done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=20)
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def read_discovery_url(machine: Outside) -> str:
    from machine_lifecycle.model.paths import Paths  # noqa: PLC0415 - only where Redis is up

    runtime = Path(machine.env["MACHINE_RUNTIME_DIR"])
    return read_discovery(Paths(workspace=machine.folder / "w", runtime=runtime)).url


@each()
def test_a_cause_ends_the_program_with_its_status_and_its_words(
    made: Cause, outside: Callable[..., Outside]
) -> None:
    machine = outside(**made.settings, MACHINE_BOOT_ATTEMPTS="1")
    done = machine.call("boot")
    assert done.returncode == made.exit_code, done.stdout[-2000:] + done.stderr[-2000:]
    said = done.stdout + done.stderr
    assert made.code in said
    assert made.remedy in said
    assert "Traceback" not in said
