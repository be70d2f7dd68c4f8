"""``submit`` and ``jobs`` as a user runs them, against a real queue and a real worker."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from machine_lifecycle.system.redis import connect
from machine_lifecycle.system.valkey import Discovery, write_discovery
from tests.support.patience import PATIENCE

SUPPORT = Path(__file__).parents[1] / "support"
ROUTES = [{"asks": "simulation", "service": "fake", "connector": "fake_connector:FakeConnector"}]


class Terminal:
    def __init__(self, folder: Path, valkey: Any) -> None:
        self.folder = folder
        self.url = valkey.url
        environ = dict(os.environ)  # noqa: TID251 - a child needs PATH and the like
        environ.pop("HUB_REDIS_URL", None)
        self.environ = environ | {
            "MACHINE_RUNTIME_DIR": str(valkey.paths.runtime),
            "WORKSPACE_PATH": str(folder / "workspace"),
        }

    def run(self, *words: str, typed: str = "", **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "machine_lifecycle", *words], env=self.environ | env,
            cwd=self.folder, capture_output=True, text=True, timeout=PATIENCE, check=False,
            input=typed,
        )  # fmt: skip

    def put(self, job_id: str, **fields: str) -> None:
        """Put a job into the queue as other parties do."""

        async def put() -> None:
            async with contextlib.aclosing(connect(self.url)) as redis:
                known: dict[Any, Any] = {"service_required": "simulation", **fields}
                await redis.hset(f"job:{job_id}", mapping=known)
                await redis.zadd("jobs:pending", {job_id: 1})

        asyncio.run(put())

    def payload(self, **facts: Any) -> str:
        (self.folder / "job.json").write_text(json.dumps(facts), encoding="utf-8")
        return "job.json"


@pytest.fixture
def terminal(own_valkey: Any, tmp_path: Path) -> Iterator[Terminal]:
    found = Terminal(tmp_path, own_valkey)
    write_discovery(
        own_valkey.paths, Discovery(url=own_valkey.url, machine_id="m1", pid=os.getpid())
    )
    environ = found.environ | {
        "PYTHONPATH": str(SUPPORT), "FAKE_FOLDER": str(tmp_path), "HUB_REDIS_URL": own_valkey.url,
        "MACHINE_ID": "m1", "WORKER_ROUTES": json.dumps(ROUTES), "CONNECTORS": "fake",
    }  # fmt: skip
    worker = subprocess.Popen(
        [sys.executable, "-m", "machine_lifecycle", "redis-worker"], env=environ
    )
    yield found
    worker.terminate()
    worker.wait(PATIENCE)


def test_submit_saves_without_overwriting(terminal: Terminal) -> None:
    for name in ("a.png", "a-1.png"):
        done = terminal.run("submit", terminal.payload(bytes=10), "--watch")
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() == str(Path("outputs") / name)
        assert (terminal.folder / "outputs" / name).read_bytes() == b"\xff" * 10


def test_a_failed_job_ends_with_status_one_and_its_words(terminal: Terminal) -> None:
    failed = terminal.run("submit", terminal.payload(fail="for good"), "--watch", "--json")
    assert failed.returncode == 1
    facts = json.loads(failed.stdout)
    assert facts["status"] == "failed"
    assert facts["error"] == "The fake was told to refuse for good."
    again = terminal.run("jobs", "retry", facts["id"])
    assert again.stdout.split() == [facts["id"], "pending"]


def test_jobs_can_be_listed_shown_and_cancelled(terminal: Terminal) -> None:
    submitted = terminal.run(
        "submit", terminal.payload(), "--service", "nobody", "--count", "2", "--json"
    )
    first, second = (entry["id"] for entry in json.loads(submitted.stdout))
    listed = json.loads(terminal.run("jobs", "list", "--json").stdout)
    assert [job["id"] for job in listed["jobs"]] == [first, second]
    assert listed["counts"]["pending"] == 2
    assert "nobody" in terminal.run("jobs", "list").stdout
    cancelled = terminal.run("jobs", "cancel", first, "--json")
    assert json.loads(cancelled.stdout) == {first: "cancelled"}
    shown = json.loads(terminal.run("jobs", "show", first, "--json").stdout)
    assert shown["status"] == "cancelled"
    unknown = terminal.run("jobs", "show", "nope")
    assert unknown.returncode == 2
    assert "job-not-found" in unknown.stderr


def test_errors_are_told_with_a_remedy(terminal: Terminal, tmp_path: Path) -> None:
    nobody = terminal.run("jobs", "list", MACHINE_RUNTIME_DIR=str(tmp_path / "none"))
    assert nobody.returncode == 3
    assert "machine-not-running" in nobody.stderr
    assert "HUB_REDIS_URL" in nobody.stderr
    away = terminal.run("jobs", "list", HUB_REDIS_URL="redis://:sesame@127.0.0.1:1")
    assert "redis-unreachable" in away.stderr
    assert "sesame" not in away.stderr
    for text, look in (
        ('{"nodes": [], "links": []}', ""),
        ("{", "json.tool bad.json"),
        ("", "-l ."),
    ):
        path = terminal.folder / "bad.json"
        path.write_text(text, encoding="utf-8") if text else path.unlink()
        bad = terminal.run("submit", "bad.json").stderr
        assert "payload-unusable" in bad
        assert look in bad
        assert look or "json.tool" not in bad
    for minutes in ("0", "-1", "inf", "nan"):
        asked = terminal.run("submit", terminal.payload(), "--timeout-minutes", minutes)
        assert (asked.returncode, asked.stdout) == (2, "")
        assert "timeout_minutes" in asked.stderr
    (terminal.folder / "nan.json").write_text('{"a": NaN}', encoding="utf-8")
    assert "its payload can't be written as JSON" in terminal.run("submit", "nan.json").stderr
    made = terminal.run("submit", terminal.payload(bytes=1), "--out", "job.json/pictures")
    assert made.returncode == 2
    assert "output-not-saved" in made.stderr
    assert "redis-unreachable" not in made.stderr


def test_why_a_job_waits(terminal: Terminal) -> None:
    done = terminal.run("submit", terminal.payload(), "--watch", "--json")
    assert json.loads(done.stdout)["status"] == "completed"
    asked = terminal.run("submit", terminal.payload(), "--service", "nobody", "--json")
    job_id = json.loads(asked.stdout)["id"]
    lines = terminal.run("jobs", "why", job_id).stdout.splitlines()
    assert lines[0] == "0 of 1 living workers can run it"
    assert "serves no nobody" in lines[1]
    told = json.loads(terminal.run("jobs", "why", job_id, "--json").stdout)
    assert told["status"] == "unworkable"
    assert told["fits"][0]["lacks"] == ["serves no nobody"]


def test_a_job_comes_over_stdin_for_the_first_service_of_the_settings(terminal: Terminal) -> None:
    asked = terminal.run("submit", "-", "--json", typed='{"a": 1}', WORKERS="comfyui-remote:1")
    job_id = json.loads(asked.stdout)["id"]
    assert terminal.run("jobs", "show", job_id, "--json").stdout.count('"comfyui"') == 1
    unserved = terminal.run("submit", "-", typed='{"a": 1}', WORKERS="some.module:SERVICE")
    assert unserved.returncode == 2
    assert "some.module:SERVICE" in unserved.stderr
    named = {"WORKERS": "machine_lifecycle.services.comfyui:SERVICE"}
    asked = terminal.run("submit", "-", "--json", typed='{"a": 1}', **named)
    job_id = json.loads(asked.stdout)["id"]
    assert '"comfyui"' in terminal.run("jobs", "show", job_id, "--json").stdout
    nothing = terminal.run("submit", "-", typed="")
    assert nothing.returncode == 2
    assert "payload-unusable" in nothing.stderr


def test_a_watch_that_is_interrupted_says_how_to_go_on(terminal: Terminal) -> None:
    words = ("submit", terminal.payload(), "--service", "nobody", "--watch")
    watching = subprocess.Popen(
        [sys.executable, "-m", "machine_lifecycle", *words], env=terminal.environ,
        cwd=terminal.folder, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert watching.stderr is not None
    first = watching.stderr.readline()
    watching.send_signal(signal.SIGINT)
    told = watching.stderr.read()
    assert watching.wait(PATIENCE) == 130
    watching.stderr.close()
    (job,) = json.loads(terminal.run("jobs", "--json").stdout)["jobs"]
    assert first.startswith(f"job {job['id'][-8:]} ")
    assert told.splitlines() == [
        f"no longer watched, and going on: machine-lifecycle jobs watch {job['id']}",
        f"or have them end: machine-lifecycle jobs cancel {job['id']}",
    ]


def test_what_a_service_answers_in_words_is_shown(terminal: Terminal) -> None:
    job = terminal.payload(color="red")
    done = json.loads(terminal.run("submit", job, "--watch", "--json").stdout)
    shown = terminal.run("submit", job, "--watch").stdout
    assert json.loads(shown).keys() == done["result"]["data"].keys()


def test_what_is_empty_is_said_and_what_is_long_can_be_copied(terminal: Terminal) -> None:
    assert terminal.run("jobs").stdout.splitlines()[0] == "no jobs"
    assert terminal.run("jobs", "dead").stdout.splitlines()[0] == "no such jobs"
    done = json.loads(
        terminal.run("submit", terminal.payload(bytes=10), "--watch", "--json").stdout
    )
    shown = terminal.run("jobs", "show", done["id"]).stdout
    assert "history" not in shown
    result = shown.partition("result\n")[2]
    assert json.loads(result) == done["result"]


def test_jobs_alone_lists(terminal: Terminal) -> None:
    asked = terminal.run("submit", terminal.payload(), "--service", "nobody", "--json")
    job_id = json.loads(asked.stdout)["id"]
    assert job_id in terminal.run("jobs").stdout
    assert [job["id"] for job in json.loads(terminal.run("jobs", "--json").stdout)["jobs"]] == [
        job_id
    ]
    assert terminal.run("jobs", "--status", "completed", "--json").stdout.count(job_id) == 0
    assert "cancel" in terminal.run("jobs", "--help").stdout


def test_a_job_is_submitted_once_and_watched_later(terminal: Terminal) -> None:
    words = ("submit", terminal.payload(bytes=10), "--key", "order 7", "--json")
    first, again = (json.loads(terminal.run(*words).stdout)["id"] for _ in range(2))
    assert first == again
    seen = terminal.run("jobs", "watch", first, "--out", "seen", "--json")
    assert seen.returncode == 0, seen.stderr
    told = json.loads(seen.stdout)
    assert (told["status"], told["saved"]) == ("completed", ["seen/a.png"])
    assert first in terminal.run("jobs", "ls").stdout
    several = terminal.run("submit", terminal.payload(), "--key", "a", "--count", "2")
    assert several.returncode == 2


def test_what_was_set_aside_is_listed(terminal: Terminal) -> None:
    asked = terminal.run(
        "submit", terminal.payload(fail="for good"), "--max-retries", "1", "--watch", "--json"
    )
    assert json.loads(asked.stdout)["max_retries"] == 1
    terminal.put("theirs", requirements='{"ram_gb": "much"}')
    failed = terminal.run("jobs", "watch", "theirs")  # until a worker has looked at it
    assert failed.returncode == 1
    dead = json.loads(terminal.run("jobs", "dead", "--json").stdout)
    assert [job["id"] for job in dead["jobs"]] == ["theirs"]
    ours = terminal.run("submit", terminal.payload(), "--requirements", '{"ram_gb": "much"}')
    assert ours.returncode == 2
    assert "job-unrunnable" in ours.stderr
    assert "requirement ram_gb is no number" in ours.stderr


def test_a_watched_job_tells_its_progress_into_a_pipe(terminal: Terminal) -> None:
    done = terminal.run("submit", terminal.payload(bytes=10), "--watch")
    assert "completed" in done.stderr
    assert done.stderr.startswith("job ")


def test_what_is_refused_about_one_job_holds_up_no_other(terminal: Terminal) -> None:
    asked = terminal.run(
        "submit", terminal.payload(), "--service", "nobody", "--count", "2", "--json"
    )
    first, second = (job["id"] for job in json.loads(asked.stdout))
    told = terminal.run("jobs", "cancel", first, "one", first, "two words", second)
    assert told.returncode == 2
    assert told.stdout.splitlines() == [f"{first} cancelled", f"{second} cancelled"]
    assert "there is no job one" in told.stderr
    assert "there is no job two words" in told.stderr
    again = terminal.run("jobs", "retry", "one", first, "--json")
    assert again.returncode == 2
    assert json.loads(again.stdout) == {first: "pending"}
    assert "there is no job one" in again.stderr


def test_what_others_wrote_is_listed_as_it_is(terminal: Terminal) -> None:
    terminal.put("[red]a", service_required="[bold]")
    terminal.put("b\nc\x1b[2J", service_required="nobody")
    done = terminal.run("jobs", "list")
    assert "[red]a" in done.stdout
    assert "[bold]" in done.stdout
    assert "b c [2J" in done.stdout
    assert "\x1b" not in done.stdout
    assert terminal.run("jobs", "list", "--limit", "0").returncode == 2


def test_a_failed_job_is_listed_with_its_error(terminal: Terminal) -> None:
    terminal.run("submit", terminal.payload(fail="for good"), "--watch")
    assert "The fake was told to refuse for good." in terminal.run("jobs", "list").stdout


def test_what_a_drain_says_next_can_be_pasted(terminal: Terminal) -> None:
    done = terminal.run("drain", "--machine", "box 7")
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(
        "take jobs again with: machine-lifecycle undrain --machine 'box 7'\n"
    )


def test_a_job_from_a_stdin_that_is_closed_is_none(terminal: Terminal) -> None:
    done = subprocess.run(
        ["/bin/sh", "-c", f"exec {sys.executable} -m machine_lifecycle submit - <&-"],
        env=terminal.environ, cwd=terminal.folder, capture_output=True, text=True,
        timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert (done.returncode, "[payload-unusable]" in done.stderr) == (2, True), done.stderr
