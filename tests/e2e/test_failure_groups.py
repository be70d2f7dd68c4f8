"""Every cause that people meet, made for real, told alike wherever somebody looks, and mended.

Each makes a machine fail as its user would see it: the same code and remedies on the terminal, on
the status page, in the events, and in Redis where there is one. Then a remedy is pasted into a
shell just as it was told, and the machine boots.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import attrs
import pytest

from machine_lifecycle.system.valkey import read_discovery
from tests.support.comfyui_bed import make_bed
from tests.support.git_server import Origin, git_server, self_signed
from tests.support.outside import Outside, machines
from tests.support.patience import PATIENCE
from tests.support.ports import free_port
from tests.support.redis_server import ValkeyServer

BASH = shutil.which("bash") or "/bin/bash"


@attrs.frozen(kw_only=True)
class Cause:
    """What is wrong with a machine.

    Attributes:
        remedy: Begins the command that mends it, or that says whether it is mended.
        mend: What somebody does elsewhere, where the machine's own user can't mend it; gives what a
            reader fills in for words in capitals.
        healed: The state that it reaches then.
    """

    code: str
    settings: dict[str, str]
    remedy: str
    mend: Callable[[], AbstractContextManager[Any]] = contextlib.nullcontext
    healed: str = "ready"
    exit_code: int = 3


Make = Callable[[Path, ExitStack], Cause]


def comfyui(folder: Path, **settings: str) -> dict[str, str]:
    """A machine with ComfyUI from local repositories and wheels. It can be installed, not run."""
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


def mapped(folder: Path, connector: str) -> dict[str, str]:
    """A machine whose simulated service is driven by a connector of one's own."""
    mapping = {
        "workers": {"mine": {"services": ["simulation"]}},
        "services": {"simulation": {"connector": connector}},
    }
    path = folder / "mapping.json"
    path.write_text(json.dumps(mapping), encoding="utf-8")
    return {"WORKERS": "mine:1", "SERVICE_MAPPING_PATH": str(path), "REDIS": "embedded"}


CONNECTOR = "from machine_lifecycle.connectors.comfyui import SimulationConnector as Site\n"


# 1 Installation


def dead_url(folder: Path, _: ExitStack) -> Cause:
    port = free_port()
    url = f"http://127.0.0.1:{port}/ComfyUI"
    settings = comfyui(folder, COMFYUI_REPO_URL=url)
    Origin(folder / "served" / "ComfyUI", main__py="")
    return Cause(
        code="host-down",
        settings=settings,
        remedy=f"git ls-remote {url}",
        mend=lambda: git_server(folder / "served", port=port),
        healed="pm_generation",
    )


def refused_certificate(folder: Path, stack: ExitStack) -> Cause:
    Origin(folder / "served" / "ComfyUI", main__py="")
    at = stack.enter_context(git_server(folder / "served", tls=self_signed(folder)))
    settings = comfyui(folder, COMFYUI_REPO_URL=f"https://{at}/ComfyUI")
    return Cause(
        code="git-clone-failed", settings=settings, remedy="openssl", healed="pm_generation"
    )


def conflicting_requirement(folder: Path, _: ExitStack) -> Cause:
    settings = comfyui(folder)
    greedy = Origin(folder / "greedy", main__py="", requirements__txt="torch==2.0\ngreedy\n")
    settings["COMFYUI_REPO_URL"] = str(folder / "greedy")

    @contextlib.contextmanager
    def agree() -> Iterator[dict[str, str]]:
        yield {"COMMIT": greedy.commit(requirements__txt="torch==2.0\n")}

    return Cause(
        code="lock-impossible",
        settings=settings,
        remedy="export COMFYUI_COMMIT=",
        mend=agree,
        healed="pm_generation",
    )


def full_disk(folder: Path, stack: ExitStack) -> Cause:
    small = folder / "small"
    small.mkdir()
    mount = ["/bin/mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", str(small)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here")
    stack.callback(subprocess.run, ["/bin/umount", str(small)], check=True)
    large = Origin(folder / "large", main__py="")
    large.git("config", "core.compression", "0")  # which would take longer than all else
    large.commit(big__txt=os.urandom(14 << 20).hex())
    settings = comfyui(folder, WORKSPACE_PATH=str(small / "w"))
    settings["COMFYUI_REPO_URL"] = str(folder / "large")

    @contextlib.contextmanager
    def room() -> Iterator[None]:
        larger = ["/bin/mount", "-o", "remount,size=800m", str(small)]
        subprocess.run(larger, check=True)
        yield

    return Cause(
        code="disk-full", settings=settings, remedy="df -h", mend=room, healed="pm_generation"
    )


# 2 Node packs, of which the list says that they are required. Without that a failed one is no
# failure of the boot: see tests/e2e/test_packs.py.


def listed(folder: Path, **pack: Any) -> dict[str, str]:
    """A machine whose list has one pack."""
    path = folder / "config_nodes.json"
    nodes = [{"name": "Wanted", "required": True, **pack}]
    path.write_text(json.dumps({"custom_nodes": nodes}), encoding="utf-8")
    return comfyui(folder, CONFIG_NODES_PATH=str(path))


def pack_out_of_reach(folder: Path, _: ExitStack) -> Cause:
    port = free_port()
    url = f"http://127.0.0.1:{port}/Wanted"
    Origin(folder / "served" / "Wanted", __init____py="")
    return Cause(
        code="lock-pack-impossible",
        settings=listed(folder, url=url),
        remedy=f"git ls-remote {url}",
        mend=lambda: git_server(folder / "served", port=port),
        healed="pm_generation",
    )


def pack_that_excludes_comfyui(folder: Path, _: ExitStack) -> Cause:
    pack = Origin(folder / "packs" / "Wanted", requirements__txt="greedy\n")

    @contextlib.contextmanager
    def agree() -> Iterator[None]:
        pack.commit(requirements__txt="small\n")
        yield

    return Cause(
        code="lock-pack-impossible",
        settings=listed(folder, url=pack.url, requirements=True),
        remedy="machine-lifecycle lock --dry-run",
        mend=agree,
        healed="pm_generation",
    )


# 3 ComfyUI won't start


def no_gpu(folder: Path, _: ExitStack) -> Cause:
    settings = comfyui(folder, CUDA_VISIBLE_DEVICES="")
    del settings["GPU_MODE"], settings["MOCK_GPU_NUM"]
    return Cause(
        code="no-gpu",
        settings=settings,
        remedy="export GPU_MODE=mock",
        healed="pm_generation",
        exit_code=2,
    )


def taken_port(_: Path, stack: ExitStack) -> Cause:
    taker = stack.enter_context(socket.socket())
    taker.bind(("127.0.0.1", 0))
    taker.listen()
    port = str(taker.getsockname()[1])
    settings = {"SIMULATION_BASE_PORT": port}
    return Cause(code="port-taken", settings=settings, remedy="export SIMULATION_BASE_PORT=")


def wrong_model_path(folder: Path, _: ExitStack) -> Cause:
    in_the_way = folder / "models"
    in_the_way.write_text("", encoding="utf-8")
    settings = comfyui(folder, COMFYUI_MODELS_PATH=str(in_the_way / "mine"))
    return Cause(
        code="models-folder-unusable",
        settings=settings,
        remedy="unset COMFYUI_MODELS_PATH",
        healed="pm_generation",
        exit_code=2,
    )


# 4 Workers can't connect


def redis_away(_: Path, __: ExitStack) -> Cause:
    url = f"redis://127.0.0.1:{free_port()}"
    return Cause(
        code="redis-unreachable", settings={"HUB_REDIS_URL": url}, remedy="export REDIS=embedded"
    )


def wrong_password(_: Path, stack: ExitStack) -> Cause:
    server = ValkeyServer()
    server.start()
    stack.callback(server.close)
    wrong = server.url.replace(server.url.split("@")[0].rpartition(":")[2], "wrong")
    return Cause(
        code="redis-auth",
        settings={"HUB_REDIS_URL": wrong},
        remedy="export REDIS=embedded",
        exit_code=2,
    )


def connector_misspelt(folder: Path, _: ExitStack) -> Cause:
    settings = mapped(folder, "SimulatoinConnector")

    @contextlib.contextmanager
    def spelt() -> Iterator[None]:
        mapped(folder, "SimulationConnector")  # as the remedy says: Write `SimulationConnector`
        yield

    return Cause(
        code="service-unknown",
        settings=settings,
        remedy="machine-lifecycle services",
        mend=spelt,
        exit_code=2,
    )


def connector_not_on_the_path(folder: Path, _: ExitStack) -> Cause:
    # As with the installed command: the folder where it is typed is not on Python's path.
    settings = mapped(folder, "site_connectors:Site") | {"PYTHONSAFEPATH": "1"}
    return Cause(
        code="connector-broken", settings=settings, remedy="export PYTHONPATH=", exit_code=2
    )


def connector_broken(folder: Path, _: ExitStack) -> Cause:
    site = folder / "broken_connectors.py"
    site.write_text(f"import not_there\n{CONNECTOR}", encoding="utf-8")
    settings = mapped(folder, "broken_connectors:Site") | {"PYTHONPATH": str(folder)}

    @contextlib.contextmanager
    def whole() -> Iterator[None]:
        site.write_text(CONNECTOR, encoding="utf-8")
        yield

    return Cause(
        code="connector-broken",
        settings=settings,
        remedy=sys.executable,
        mend=whole,
        exit_code=2,
    )


# 5 Health checks fail


def never_ready(_: Path, __: ExitStack) -> Cause:
    settings = {
        "SIMULATION_READY_DELAY_MS": "6000",
        "MACHINE_STATE_CAPS": "services_starting=6",
    }
    return Cause(
        code="state-too-long",
        settings=settings,
        remedy="export MACHINE_STATE_CAPS=services_starting=12",
    )


CAUSES = (
    *(dead_url, refused_certificate, conflicting_requirement, full_disk),
    *(pack_out_of_reach, pack_that_excludes_comfyui),
    *(no_gpu, taken_port, wrong_model_path),
    *(redis_away, wrong_password),
    *(connector_misspelt, connector_not_on_the_path, connector_broken, never_ready),
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


def part_of(cause: Cause, wire: dict[str, Any], where: str) -> dict[str, Any]:
    """The error that the cause is to lead to, alone or in a group; the remedy is in it."""
    parts: list[dict[str, Any]] = wire.get("errors") or [wire]
    found = [part for part in parts if part["code"] == cause.code]
    assert found, (where, wire)
    commands = [remedy["command"] or "" for remedy in found[0]["remedies"]]
    assert any(command.startswith(cause.remedy) for command in commands), (where, commands)
    return found[0]


def page(report: dict[str, Any]) -> dict[str, Any]:
    """The same, from the page that probes read."""
    with urllib.request.urlopen(f"{report['health_url']}/status", timeout=PATIENCE) as answer:  # noqa: S310 - loopback
        status: dict[str, Any] = json.load(answer)
    return status


def look(made: Cause, machine: Outside, told: dict[str, Any]) -> None:
    """Everywhere else the same is told as in the event."""
    report = json.loads(machine.call("status", "--json").stdout)
    assert report["state"] == "failed"
    assert part_of(made, report["failure"], "status") == told
    assert part_of(made, page(report)["failure"], "page") == told
    shown = machine.call("status").stdout
    assert f"[{made.code}]" in shown
    for remedy in told["remedies"]:
        assert (remedy["command"] or remedy["text"]) in shown.replace("\n", "")
    if report["redis_connected"] and not made.settings.get("HUB_REDIS_URL"):
        stored = next(e for e in stream(machine) if e["kind"] == "machine_failed")
        assert part_of(made, stored["error"], "redis") == told
    explained = machine.call("explain", made.code)
    assert explained.returncode == 0


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
    done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=PATIENCE)
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def read_discovery_url(machine: Outside) -> str:
    from machine_lifecycle.model.paths import Paths  # noqa: PLC0415 - only where Redis is up

    runtime = Path(machine.env["MACHINE_RUNTIME_DIR"])
    return read_discovery(Paths(workspace=machine.folder / "w", runtime=runtime)).url


def paste(machine: Outside, command: str) -> int:
    """Type a command where the machine is started; what it exports stays. Its exit status."""
    after = machine.folder / "environment"
    ours = Path(sys.executable).parent
    done = subprocess.run(
        [BASH, "-c", f'{{ {command}\n}}; done=$?; env -0 >"$AFTER"; exit $done'],
        env={**machine.env, "AFTER": str(after), "PATH": f"{ours}:{os.defpath}"},
        cwd=machine.folder,
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )
    pairs = (line.partition("=") for line in after.read_text().split("\0") if line)
    typed = {name: value for name, _, value in pairs}
    for name in ("AFTER", "_", "SHLVL", "PWD", "OLDPWD"):
        typed.pop(name, None)
    machine.env = {**typed, "PATH": machine.env["PATH"]}
    return done.returncode


@pytest.mark.parametrize("made", CAUSES, indirect=True, ids=[make.__name__ for make in CAUSES])
def test_a_cause_is_told_alike_everywhere_and_its_remedy_mends_it(
    made: Cause, outside: Callable[..., Outside]
) -> None:
    machine = outside(**made.settings, MACHINE_BOOT_ATTEMPTS="1", MACHINE_CRASH_BACKOFF_MAX="0")
    (machine.folder / "site_connectors.py").write_text(CONNECTOR, encoding="utf-8")
    machine.start(ON_FAILED="stay")
    told = part_of(made, machine.until("machine_failed")["error"], "event")
    look(made, machine, told)
    machine.signal(signal.SIGTERM)
    assert machine.wait() == made.exit_code, machine.said()
    assert "Traceback" not in machine.said()
    commands = [remedy["command"] or "" for remedy in told["remedies"]]
    command = next(one for one in commands if one.startswith(made.remedy))
    with made.mend() as known:
        for word, value in known.items() if isinstance(known, dict) else ():
            command = command.replace(f"={word}", f"={value}")
        assert paste(machine, command) == 0, command
        machine.start()
        machine.until("changed", target=made.healed)
    machine.signal(signal.SIGTERM)
    machine.wait()
