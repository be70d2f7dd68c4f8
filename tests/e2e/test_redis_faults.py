"""A Redis that refuses, or is out of reach: nobody crashes, nothing is lost, and all say why.

All speak to it over TLS, as a user with the least rights.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from redis import Redis

from machine_lifecycle.system.redis_rights import rules
from machine_lifecycle.system.valkey import find_server
from tests.support.front import Front
from tests.support.git_server import self_signed
from tests.support.outside import Outside
from tests.support.redis_server import ValkeyServer
from tests.support.sentinel import Watched

SECONDS = 2.0
USER = "gpu"


def graph(folder: Path, *, effort: float = 0.0) -> str:
    """The file of a job that takes so many seconds."""
    nodes = {
        "1": {
            "class_type": "EmptyImage",
            "inputs": {"width": 32, "height": 16, "batch_size": 1, "color": 7},
        },
        "2": {"class_type": "SimulateEffort", "inputs": {"image": ["1", 0], "seconds": effort}},
        "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "a"}},
    }
    path = folder / "graph.json"
    path.write_text(json.dumps(nodes), encoding="utf-8")
    return str(path)


class Bed:
    """One machine whose Redis has faults by order."""

    def __init__(self, machine: Outside, front: Front, admin: Redis) -> None:
        self.machine = machine
        self.front = front
        self.admin = admin

    def workers(self) -> set[int]:
        return {
            process.pid
            for process in self.machine.running()
            if "redis-worker" in str(process.cmdline())
        }

    def until_trouble(self, words: str) -> None:
        """Wait until the machine says why it has no queue; empty: that it has one."""
        self.machine.until_report(
            lambda report: (
                words in report["redis_trouble"] and report["redis_connected"] is not bool(words)
            )
        )


@pytest.fixture
def bed(outside: Callable[..., Outside], tmp_path: Path) -> Iterator[Bed]:
    server = ValkeyServer()
    server.start()
    admin: Redis = Redis.from_url(server.url, decode_responses=True)
    admin.execute_command("ACL", "SETUSER", USER, "on", ">secret", *rules())
    certificate, key = self_signed(tmp_path)
    front = Front(server.paths.runtime / "valkey.sock", tls=(certificate, key))
    try:
        machine = outside(
            HUB_REDIS_URL=f"rediss://{USER}:secret@127.0.0.1:{front.port}?ssl_ca_certs={certificate}",
            REDIS="hub",
            MACHINE_STATUS_UPDATE_INTERVAL_SECONDS="1",
        ).start()
        machine.until("machine_ready")
        yield Bed(machine, front, admin)
    finally:
        front.close()
        admin.close()
        server.close()


def fill(bed: Bed) -> None:
    bed.admin.config_set("maxmemory", bed.admin.info("memory")["used_memory"] - 100_000)


def give_room(bed: Bed) -> None:
    bed.admin.config_set("maxmemory", 0)


def follow(bed: Bed) -> None:
    bed.admin.execute_command("REPLICAOF", "127.0.0.1", "1")


def lead(bed: Bed) -> None:
    bed.admin.execute_command("REPLICAOF", "NO", "ONE")


def change_password(bed: Bed) -> None:
    bed.admin.execute_command("ACL", "SETUSER", USER, "resetpass", ">other")
    bed.admin.execute_command("CLIENT", "KILL", "USER", USER)


def restore_password(bed: Bed) -> None:
    bed.admin.execute_command("ACL", "SETUSER", USER, "resetpass", ">secret")


def forbid(bed: Bed) -> None:
    bed.admin.execute_command("ACL", "SETUSER", USER, "-@write")


def permit(bed: Bed) -> None:
    bed.admin.execute_command("ACL", "SETUSER", USER, *rules())


def cut(bed: Bed) -> None:
    bed.front.cut()


def mend(bed: Bed) -> None:
    bed.front.mend()


@pytest.mark.parametrize(
    ("begin", "end", "code", "words"),
    [
        (fill, give_room, "redis-refuses", "memory is full"),
        (follow, lead, "redis-refuses", "read-only replica"),
        (change_password, restore_password, "redis-auth", "refuses the user name or the password"),
        (forbid, permit, "redis-refuses", "does not permit"),
        (cut, mend, "redis-unreachable", "does not answer"),
    ],
    ids=["full memory", "read-only replica", "changed password", "missing right", "cut network"],
)
def test_a_job_that_runs_when_redis_refuses_ends_once_it_takes_writes_again(
    bed: Bed, begin: Callable[[Bed], None], end: Callable[[Bed], None], code: str, words: str
) -> None:
    machine = bed.machine
    job = machine.call("submit", graph(machine.folder, effort=SECONDS)).stdout.strip()
    machine.until("job_started", job_id=job)
    workers = bed.workers()
    begin(bed)
    refused = machine.call("submit", graph(machine.folder))
    assert refused.returncode != 0
    assert f"[{code}]" in refused.stderr
    assert "Traceback" not in refused.stderr
    bed.until_trouble(words)
    end(bed)
    machine.until("job_finished", job_id=job, outcome="completed")
    bed.until_trouble("")
    assert bed.workers() == workers
    done = machine.call("submit", graph(machine.folder), "--watch")
    assert done.returncode == 0, done.stderr
    told = json.loads(machine.call("jobs", "show", job, "--json").stdout)
    assert (told["status"], told["retry_count"]) == ("completed", 0)


def test_a_machine_comes_up_while_redis_is_full_and_takes_what_waits_there(bed: Bed) -> None:
    machine = bed.machine
    machine.signal(signal.SIGTERM)
    assert machine.wait() == 0
    job = machine.call("submit", graph(machine.folder)).stdout.strip()
    bed.admin.config_set("maxmemory", 1)
    machine.start()
    machine.until("machine_ready")
    report = machine.until_report(lambda report: report["workers"][0]["current_job_id"] == job)
    bed.until_trouble("memory is full")
    key = f"machine:{report['machine_id']}:info"
    assert bed.admin.hget(key, "status") == "ready"
    assert bed.admin.ttl(key) > 60
    give_room(bed)
    machine.until("job_finished", job_id=job, outcome="completed")  # its picture needs room
    bed.until_trouble("")


def test_a_worker_that_finds_redis_full_is_told_of_until_there_is_room(bed: Bed) -> None:
    machine = bed.machine
    bed.admin.function_flush()  # so that it has something to write before it can do anything
    bed.admin.config_set("maxmemory", 1)
    for pid in bed.workers():
        os.kill(pid, signal.SIGKILL)
    while "memory is full" not in machine.until("worker_changed")["worker"]["trouble"]:
        continue
    bed.until_trouble("memory is full")
    log = machine.folder / "stderr"
    assert "memory is full" in log.read_text(encoding="utf-8")
    give_room(bed)
    while not machine.until("worker_changed")["worker"]["connected"]:
        continue
    bed.until_trouble("")
    done = machine.call("submit", graph(machine.folder), "--watch")
    assert done.returncode == 0, done.stderr


def test_a_machine_goes_on_at_the_primary_that_follows(
    outside: Callable[..., Outside], tmp_path: Path
) -> None:
    watched = Watched(tmp_path, str(find_server()))
    try:
        watched.start()
        url = f"redis+sentinel://127.0.0.1:{watched.sentinel}/main"
        machine = outside(HUB_REDIS_URL=url, REDIS="hub").start()
        machine.until("machine_ready")
        job = machine.call("submit", graph(machine.folder, effort=SECONDS)).stdout.strip()
        machine.until("job_started", job_id=job)
        with Redis(port=watched.primary) as primary:
            assert primary.wait(1, 60_000) == 1
        with watched.switching():
            watched.kill_primary()
        machine.until("job_finished", job_id=job, outcome="completed")
        done = machine.call("submit", graph(machine.folder), "--watch")
        assert done.returncode == 0, done.stderr
        told = json.loads(machine.call("jobs", "show", job, "--json").stdout)
        assert (told["status"], told["retry_count"]) == ("completed", 0)
        machine.call("stop")
        assert machine.wait() == 0
    finally:
        watched.close()


def test_the_least_rights_are_enough(bed: Bed) -> None:
    machine = bed.machine
    done = machine.call("submit", graph(machine.folder), "--watch")
    assert done.returncode == 0, done.stderr
    for words in (("jobs", "list"), ("drain",), ("undrain",), ("doctor",), ("stop",)):
        assert machine.call(*words).returncode == 0
    assert bed.admin.execute_command("ACL", "LOG") == []
