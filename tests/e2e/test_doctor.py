"""``doctor`` and ``diagnose`` as a person runs them, each cause made for real."""

from __future__ import annotations

import json
import os
import re
import socket
import socketserver
import stat
import subprocess
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.outside import Outside, machines
from tests.support.redis_server import ValkeyServer


@pytest.fixture
def outside() -> Iterator[Callable[..., Outside]]:
    with machines() as make:
        yield make


def findings(machine: Outside, **settings: str) -> tuple[int, dict[str, Any]]:
    done = machine.call("doctor", "--json", **settings)
    assert done.stdout, done.stderr
    return done.returncode, {one["name"]: one for one in json.loads(done.stdout)}


def test_a_machine_that_would_boot_is_well_and_untouched(outside: Callable[..., Outside]) -> None:
    machine = outside()
    done = machine.call("doctor")
    assert done.returncode == 0, done.stdout
    assert done.stdout.rstrip().endswith("all well")
    assert not (machine.folder / "w").exists(), "it changes nothing"
    assert not (machine.folder / "r").exists()
    code, found = findings(machine)
    assert code == 0
    assert {one["verdict"] for one in found.values()} <= {"pass", "skip"}


def test_each_cause_is_named_with_a_remedy(outside: Callable[..., Outside]) -> None:
    machine = outside(WORKERS="comfyui:1", GPU_MODE="mock", HUB_REDIS_URL="redis://127.0.0.1:1")
    empty = machine.folder / "bin"
    empty.mkdir()
    code, found = findings(machine, PATH=str(empty), COMFYUI_PYTHON=str(empty / "python"))
    assert code == 2
    codes = {name: one["error"]["code"] for name, one in found.items() if one["error"]}
    assert codes == {"git": "git-missing", "python": "torch-missing", "redis": "redis-unreachable"}
    assert all(found[name]["error"]["remedies"] for name in codes)


def test_lists_that_can_not_be_read(outside: Callable[..., Outside]) -> None:
    lists = {"packs": "CONFIG_NODES_PATH", "models": "MODELS_MANIFEST"}
    machine = outside(WORKERS="comfyui:1", GPU_MODE="mock", REDIS="embedded")
    code, found = findings(machine, **dict.fromkeys(lists.values(), "none.json"))
    assert code == 2
    for name, variable in lists.items():
        error = found[name]["error"]
        assert error["code"] == "file-not-read"
        assert error["summary"] == f"{variable}=none.json can't be read: No such file or directory"
        assert error["remedies"][-1]["command"] == f"unset {variable}"


def test_a_disk_without_room_or_inodes(outside: Callable[..., Outside], tmp_path: Path) -> None:
    small = ["/bin/mount", "-t", "tmpfs", "-o", "size=64m,nr_inodes=1000", "tmpfs", str(tmp_path)]
    if subprocess.run(small, capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        code, found = findings(outside(WORKSPACE_PATH=str(tmp_path / "w")))
    finally:
        subprocess.run(["/bin/umount", str(tmp_path)], check=True)
    assert code == 2
    assert found["disk"]["error"]["code"] == "space-short"
    assert found["inodes"]["error"]["code"] == "inodes-short"


def test_a_plan_that_can_not_be_made_is_told_once(outside: Callable[..., Outside]) -> None:
    code, found = findings(outside(WORKERS="nonsense:1"))
    assert code == 2
    failed = {name for name, one in found.items() if one["verdict"] == "fail"}
    assert failed == {"plan"}
    assert found["ports"]["detail"] == "there is no plan"


def test_real_services_without_a_queue_are_told(outside: Callable[..., Outside]) -> None:
    _, found = findings(outside(WORKERS="comfyui:1", GPU_MODE="mock"))
    assert found["redis"]["error"]["code"] == "no-queue"


def test_a_port_that_is_taken_is_a_doubt_with_a_name(outside: Callable[..., Outside]) -> None:
    machine = outside()
    with socket.socket() as taker:
        taker.bind(("127.0.0.1", int(machine.env["SIMULATION_BASE_PORT"])))
        taker.listen()
        code, found = findings(machine)
        said = machine.call("doctor").stdout.rstrip()
    assert code == 0, "whoever has it may be gone by then"
    assert said.endswith("\nports may make a boot fail")
    assert found["ports"]["verdict"] == "warn"
    assert f"process {os.getpid()}" in found["ports"]["detail"]


def test_all_ports_that_are_taken_are_told_at_once(outside: Callable[..., Outside]) -> None:
    machine = outside(WORKERS="simulation:2")
    first = int(machine.env["SIMULATION_BASE_PORT"])
    with (
        socket.create_server(("127.0.0.1", first)),
        socket.create_server(("127.0.0.1", first + 1)),
    ):
        _, found = findings(machine)
    told = [one["summary"] for one in found["ports"]["error"]["errors"]]
    assert [str(first + number) in words for number, words in enumerate(told)] == [True, True]


def test_a_machine_that_runs_is_not_in_its_own_way(outside: Callable[..., Outside]) -> None:
    machine = outside()
    machine.start().until("machine_ready")
    code, found = findings(machine)
    assert code == 0
    assert found["ports"]["verdict"] == "pass"
    port = machine.env["SIMULATION_BASE_PORT"]
    assert found["ports"]["detail"].startswith(f"{port} ")
    assert "used by this machine, which runs" in found["ports"]["detail"]


@pytest.mark.parametrize("folder", ["/proc/machine", "/etc/hostname/machine"])
def test_a_folder_that_can_not_be_made(outside: Callable[..., Outside], folder: str) -> None:
    code, found = findings(outside(WORKSPACE_PATH=folder))
    assert code == 2
    assert found["workspace"]["error"]["code"] == "bad-folder"


def test_redis_is_asked_for_its_clock_and_its_policy(outside: Callable[..., Outside]) -> None:
    server = ValkeyServer()
    server.start()
    try:
        code, found = findings(outside(HUB_REDIS_URL=server.url))
    finally:
        server.close()
    assert code == 0
    assert found["redis"]["verdict"] == "pass"
    assert "answers in" in found["redis"]["detail"]


class LateRedis(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """A real server seen through a wire on which it is a minute later."""

    daemon_threads = True

    def __init__(self, socket_path: str) -> None:
        super().__init__(("127.0.0.1", 0), LateWire)
        self.socket_path = socket_path


class LateWire(socketserver.BaseRequestHandler):
    server: LateRedis

    def handle(self) -> None:
        with socket.socket(socket.AF_UNIX) as real:
            real.connect(self.server.socket_path)
            while asked := self.request.recv(65536):
                if b"TIME" in asked:
                    late = str(int(time.time()) + 60).encode()
                    self.request.sendall(b"*2\r\n$10\r\n%s\r\n$1\r\n0\r\n" % late)
                else:
                    real.sendall(asked)
                    self.request.sendall(real.recv(1 << 20))


def test_a_clock_that_is_off_against_redis(outside: Callable[..., Outside]) -> None:
    server = ValkeyServer()
    server.start()
    password = server.url.split("@")[0].rpartition(":")[2]
    late = LateRedis(str(server.paths.runtime / "valkey.sock"))
    serving = threading.Thread(target=late.serve_forever)
    serving.start()
    try:
        url = f"redis://:{password}@127.0.0.1:{late.server_address[1]}"
        code, found = findings(outside(HUB_REDIS_URL=url))
    finally:
        late.shutdown()
        late.server_close()
        serving.join()
        server.close()
    assert code == 2
    assert found["redis"]["error"]["code"] == "clock-wrong"
    # A minute, but for the second that is cut off and the time that the question takes.
    assert re.search(r"off by (5\d|6\d)\.", found["redis"]["detail"])


def test_a_diagnosis_holds_what_a_report_needs_and_no_secret(
    outside: Callable[..., Outside],
) -> None:
    machine = outside(SOME_API_KEY="sk-very-secret-1", MACHINE_HEALTH_TOKEN="health-secret-2")
    machine.start().until("machine_ready")
    with (machine.folder / "w" / "logs" / "simulation-gpu0.log").open("a") as log:
        log.write("the key is sk-very-secret-1, at http://user:pass-word-3@example.org/\n")
    target = machine.folder / "report.tar.gz"
    done = machine.call("diagnose", "--out", str(target))
    assert done.returncode == 0, done.stderr
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    with tarfile.open(target) as archive:
        texts = {
            Path(entry.name).name: file.read().decode()
            for entry in archive.getmembers()
            if (file := archive.extractfile(entry))
        }
    needed = {"versions.json", "settings.json", "doctor.json", "status.json", "processes.json"}
    assert needed | {"process-manifest.json", "simulation-gpu0.log"} <= set(texts)
    assert json.loads(texts["status.json"])["state"] == "ready"
    assert {one["name"] for one in json.loads(texts["plan.json"])["processes"]} == {
        "simulation-gpu0",
        "redis-worker-simulation-0",
    }
    assert json.loads(texts["versions.json"])["packages"]["machine-lifecycle"]
    everything = "".join(texts.values())
    for secret in ("sk-very-secret-1", "health-secret-2", "pass-word-3"):
        assert secret not in everything
    assert "the key is ***" in texts["simulation-gpu0.log"]


def test_a_diagnosis_of_a_machine_that_never_ran(outside: Callable[..., Outside]) -> None:
    machine = outside(WORKERS="nonsense:1")
    done = machine.call("diagnose")
    assert done.returncode == 0, done.stderr
    (written,) = machine.folder.glob("machine-diagnosis-*.tar.gz")
    with tarfile.open(written) as archive:
        plan = next(name for name in archive.getnames() if name.endswith("plan.json"))
        told = archive.extractfile(plan)
        names = {Path(name).name for name in archive.getnames()}
        assert told is not None
        assert [part["code"] for part in json.load(told)["error"]["errors"]] == ["worker-unknown"]
    assert {"doctor.json", "status.json"} <= names


def test_a_file_that_can_not_be_written_is_told(outside: Callable[..., Outside]) -> None:
    machine = outside(HUB_REDIS_URL="redis://127.0.0.1:1")
    for words in (
        ("diagnose", "--out", "/proc/machine.tar.gz"),
        ("export", "procfile", "--out", "/proc/machine"),
    ):
        done = machine.call(*words)
        assert done.returncode == 2
        assert "[file-not-written]" in done.stderr
        assert "Traceback" not in done.stderr


def test_a_diagnosis_is_made_of_a_machine_whose_id_is_none(
    outside: Callable[..., Outside], tmp_path: Path
) -> None:
    out = tmp_path / "made.tar.gz"
    done = outside(MACHINE_ID="box/7").call("diagnose", "--out", str(out))
    assert done.returncode == 0, done.stderr
    with tarfile.open(out) as archive:
        for name in ("doctor", "plan"):
            file = archive.extractfile(f"made/{name}.json")
            assert file is not None
            assert b"bad-machine-id" in file.read()
