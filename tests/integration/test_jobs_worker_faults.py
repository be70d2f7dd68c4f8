"""What a worker does with answers that are lost, and with what Redis refuses for good."""

from __future__ import annotations

import asyncio
import json
import signal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from machine_lifecycle.jobs.client import JobQueue
from machine_lifecycle.jobs.functions import LIBRARY
from machine_lifecycle.system import redis_keys as keys
from machine_lifecycle.system.redis_rights import rules
from tests.support.front import Front
from tests.support.patience import PATIENCE
from tests.support.workers import Orchestrator, Workers, end_of, registered, through

MARK = "a mark that answers are known by"


async def given(admin: Redis, job_id: str) -> None:
    """Return when the queue has given a job to a worker."""
    async with asyncio.timeout(PATIENCE):
        while await admin.hget(keys.job(job_id), "status") != "assigned":  # noqa: ASYNC110 - no event
            await asyncio.sleep(0.01)


async def forgotten(outbox: Path) -> None:
    """Return when no result is left on disk: the worker forgets it once it has heard that it is
    written, and whoever follows the job may hear of that earlier.
    """
    async with asyncio.timeout(PATIENCE):
        while list(outbox.rglob("*.json")):  # noqa: ASYNC110, ASYNC240 - no event; a small folder
            await asyncio.sleep(0.01)  # sleep: between two looks


async def test_what_was_given_in_a_lost_answer_goes_back_when_the_worker_stops(
    own_valkey: Any, admin: Redis, front: Front, workers: Workers
) -> None:
    worker = await workers.start(through(front, own_valkey), WORKER_ID="w-1")
    await registered(admin)
    front.lost = MARK.encode()
    job_id = await JobQueue(admin).submit({"mark": MARK}, service_required="simulation")
    await given(admin, job_id)
    worker.send_signal(signal.SIGTERM)
    assert await worker.wait() == 0
    record = await JobQueue(admin).get(job_id)
    assert (record.status, record.fields.get("crashes")) == ("pending", None)
    assert not await admin.exists(keys.LEASES, keys.active("w-1"))
    assert workers.journal() == ["left"]


async def test_what_was_given_in_a_lost_answer_goes_back_when_the_worker_drains(
    own_valkey: Any, admin: Redis, front: Front, workers: Workers
) -> None:
    boss = Orchestrator(own_valkey.folder / "control.sock")
    async with await boss.serve():
        await workers.start(
            through(front, own_valkey), MACHINE_CONTROL_SOCKET=str(boss.path), WORKER_ID="w-1"
        )
        await boss.wait_for("standby")
        boss.tell(do="go")
        await registered(admin)
        client = JobQueue(admin)
        front.lost = MARK.encode()
        job_id = await client.submit({"mark": MARK}, service_required="simulation")
        await given(admin, job_id)
        await client.drain("m1")
        boss.tell(do="drain")
        await boss.wait_for("status", status="draining")
        front.lost = b""
        async with asyncio.timeout(PATIENCE):
            while (await client.get(job_id)).status != "pending":  # noqa: ASYNC110 - no event
                await asyncio.sleep(0.01)
        assert (await client.get(job_id)).fields.get("crashes") is None
        boss.tell(do="undrain")
        await client.undrain("m1")
        assert (await end_of(client, job_id)).kind == "completed"
        assert workers.journal() == [f"run {job_id} 1", f"end {job_id}"]


async def test_answers_that_are_lost_while_two_calls_are_under_way_cost_no_run(
    own_valkey: Any, admin: Redis, front: Front, workers: Workers
) -> None:
    client = JobQueue(admin)
    ids = [
        await client.submit({"mark": f"mark {number}."}, service_required="simulation")
        for number in range(200)
    ]
    await workers.start(through(front, own_valkey), WORKER_ID="w-1", WORKER_MAX_CONCURRENT_JOBS="8")
    for number in range(20, 200, 20):
        front.lost = f"mark {number}.".encode()
        await given(admin, ids[number])
        front.lost = b""
    for job_id in ids:
        assert (await end_of(client, job_id)).kind == "completed"
    assert sorted(workers.journal()) == sorted(
        line for job_id in ids for line in (f"run {job_id} 1", f"end {job_id}")
    )


async def test_a_result_that_redis_refuses_ends_its_job_and_nothing_else(
    own_valkey: Any, admin: Redis, workers: Workers
) -> None:
    allowed = [rule for rule in rules() if rule != "~worker:*"]
    kept = ("~worker:w-1*", "~worker:*good*")
    await admin.execute_command("ACL", "SETUSER", "some", "on", ">secret", *allowed, *kept)
    url = f"unix://some:secret@{own_valkey.url.split('@', 1)[1]}"
    client = JobQueue(admin)
    boss = Orchestrator(own_valkey.folder / "control.sock")
    async with await boss.serve():
        worker = await workers.start(url, MACHINE_CONTROL_SOCKET=str(boss.path), WORKER_ID="w-1")
        await boss.wait_for("standby")
        boss.tell(do="go")
        payloads: dict[str, dict[str, Any]] = {"bad-result": {}, "bad-error": {"fail": True}}
        for job_id, payload in payloads.items():
            await client.submit(payload, service_required="simulation", job_id=job_id)
            trouble = await boss.wait_for("trouble")
            assert trouble["error"]["code"] == "result-refused"
            assert "ACL failure" in trouble["error"]["summary"]
            await boss.wait_for("job_done", job_id=job_id, outcome="failed")
            record = await client.get(job_id)
            assert (record.status, "ACL failure" in record.error) == ("failed", True)
        late = json.loads(str(await admin.get("job:bad-result:late:1")))
        assert late["success"] is True
        await client.submit({}, service_required="simulation", job_id="good")
        assert (await end_of(client, "good")).kind == "completed"
        assert worker.returncode is None
        assert [line for line in workers.journal() if line.startswith("run")] == [
            "run bad-result 1", "run bad-error 1", "run good 1",
        ]  # fmt: skip


async def test_a_result_that_may_not_be_written_yet_waits_and_holds_nobody_up(
    own_valkey: Any, admin: Redis, workers: Workers
) -> None:
    allowed = [rule for rule in rules() if rule != "~job:*"]
    some = ("ACL", "SETUSER", "some", "on", ">secret")
    await admin.execute_command(*some, *rules())
    url = f"unix://some:secret@{own_valkey.url.split('@', 1)[1]}"
    client = JobQueue(admin)
    await workers.start(url, WORKER_ID="w-1", WORKER_MAX_CONCURRENT_JOBS="2")
    await client.submit({"wait": "go"}, service_required="simulation", job_id="bad")
    async with asyncio.timeout(PATIENCE):
        while "run bad 1" not in workers.journal():  # noqa: ASYNC110 - no event
            await asyncio.sleep(0.01)
    await admin.execute_command(*some, "reset", "on", ">secret", *allowed, "~job:good*")
    (workers.folder / "go").touch()
    for number in range(3):
        await client.submit({}, service_required="simulation", job_id=f"good-{number}")
        assert (await end_of(client, f"good-{number}")).kind == "completed"
    assert (await client.get("bad")).status in {"assigned", "in_progress"}
    await admin.execute_command(*some, *rules())
    end = await end_of(client, "bad")
    assert end.job
    assert (end.kind, end.job.fence) == ("completed", 1)
    assert workers.journal().count("run bad 1") == 1


async def test_results_that_nothing_can_be_made_of_are_kept_with_the_reason(
    own_valkey: Any, admin: Redis, workers: Workers
) -> None:
    client = JobQueue(admin)
    boss = Orchestrator(own_valkey.folder / "control.sock")
    outbox = own_valkey.folder / "outbox" / "w-1"
    async with await boss.serve():
        start = partial(
            workers.start, own_valkey.url, MACHINE_CONTROL_SOCKET=str(boss.path), WORKER_ID="w-1"
        )
        worker = await start()
        await boss.wait_for("standby")
        boss.tell(do="go")
        await boss.wait_for("connected")
        # As one of a later release might, which other machines have by now.
        library: Any = await admin.function_list(LIBRARY, withcode=True)
        ours = dict(zip(library[0][::2], library[0][1::2], strict=True))["library_code"]
        begin = "function api.ml1_turn(_, a)"
        refusing = ours.replace(begin, f"{begin} if a[13] then error('takes no results') end")
        later = refusing.replace("-- revision ", "-- revision 9")
        await admin.function_load(later, replace=True)
        ids = [f"job-{number}" for number in range(6)]
        for job_id in ids[:5]:
            await client.submit({}, service_required="simulation", job_id=job_id)
            trouble = await boss.wait_for("trouble")
            assert trouble["error"]["code"] == "result-refused"
            assert str(outbox) in trouble["error"]["summary"]
        # Enough: no sixth job is run for nothing.
        assert (await boss.wait_for("trouble"))["error"]["code"] == "service-failing"
        await boss.wait_for("status", status="paused")
        await client.submit({}, service_required="simulation", job_id=ids[5])
        reasons = [json.loads(path.read_text())["reason"] for path in outbox.glob("*.json")]
        assert len(reasons) == 5
        assert all("takes no results" in reason for reason in reasons)
        assert worker.returncode is None
        worker.kill()
        await worker.wait()
        await admin.function_load(ours, replace=True)
        await start()
        await boss.wait_for("standby")
        boss.tell(do="go")
        await boss.wait_for("connected")
        for job_id in ids:
            end = await end_of(client, job_id)
            assert end.job
            assert (end.kind, end.job.fence) == ("completed", 1)
            assert await admin.hget(keys.COMPLETED, job_id)
        await forgotten(outbox)
        assert len([line for line in workers.journal() if line.startswith("run")]) == 6


@pytest.mark.parametrize(
    "case",
    [
        ("words", "proto-max-bulk-len"),
        ("bytes", "proto-max-bulk-len"),
        ("words", "client-query-buffer-limit"),
    ],
    ids=" ".join,
)
async def test_a_result_that_is_too_large_for_its_server_fails_its_job(
    own_valkey: Any, admin: Redis, front: Front, workers: Workers, case: tuple[str, str]
) -> None:
    kind, limit = case
    await admin.config_set(limit, 2**20)
    client = JobQueue(admin)
    boss = Orchestrator(own_valkey.folder / "control.sock")
    async with await boss.serve():
        await workers.start(
            through(front, own_valkey), MACHINE_CONTROL_SOCKET=str(boss.path), WORKER_ID="w-1",
            WORKER_MAX_CONCURRENT_JOBS="2",
        )  # fmt: skip
        await boss.wait_for("standby")
        boss.tell(do="go")
        await client.submit({kind: 3 * 2**20}, service_required="simulation", job_id="large")
        await client.submit({kind: 1000}, service_required="simulation", job_id="small")
        await boss.wait_for("job_done", job_id="large", outcome="failed")
        end = await end_of(client, "large")
        assert end.job
        assert (end.kind, end.job.fence, end.job.error_details["code"]) == (
            "failed", 1, "result-too-large",
        )  # fmt: skip
        assert "more than Redis takes at once: " in end.job.error
        remedy = end.job.error_details["remedies"][-1]["command"]
        assert remedy.startswith(f"redis-cli -h 127.0.0.1 -p {front.port} --askpass config set ")
        assert (await end_of(client, "small")).kind == "completed"
        await client.submit({kind: 1000}, service_required="simulation", job_id="next")
        assert (await end_of(client, "next")).kind == "completed"
    await forgotten(own_valkey.folder / "outbox")
    assert workers.journal().count("run large 1") == 1


@pytest.mark.parametrize("fail", ["at length", "bug at length"])
async def test_what_a_service_says_at_length_is_shortened(
    own_valkey: Any, admin: Redis, front: Front, workers: Workers, fail: str
) -> None:
    await admin.config_set("proto-max-bulk-len", 2**20)
    client = JobQueue(admin)
    boss = Orchestrator(own_valkey.folder / "control.sock")
    async with await boss.serve():
        await workers.start(
            through(front, own_valkey), MACHINE_CONTROL_SOCKET=str(boss.path), WORKER_ID="w-1"
        )
        await boss.wait_for("standby")
        boss.tell(do="go")
        payload = {"fail": fail, "rant": 3 * 2**20}
        await client.submit(payload, service_required="simulation", job_id="bad", max_retries=1)
        async with asyncio.timeout(PATIENCE):
            said = [event.message async for event in client.watch("bad")]
        record = await client.get("bad")
        assert (record.status, record.fence) == ("failed", 1)
        left_out = "characters are left out"
        assert "it begins x" in record.error
        assert record.error.endswith("x and ends")
        assert left_out in record.error
        assert any("it begins x" in words and left_out in words for words in said[:-1])
        told = record.error_details
        assert told["code"] == ("fake-rant" if fail == "at length" else "job-crashed")
        assert told["recoverable"] is (fail != "at length")
        assert told["remedies"][0]["command"]
        assert len(json.dumps(told)) < 64 * 1024
        # Nor does a service that is down, at length, end the talk with the orchestrator.
        payload = {"break_service": True, "rant": 3 * 2**20}
        await client.submit(payload, service_required="simulation", job_id="next")
        for say in ("trouble", "disconnected"):
            assert len(str(await boss.wait_for(say))) < 64 * 1024


async def test_a_large_result_that_a_predecessor_left_keeps_no_worker_from_its_work(
    own_valkey: Any, admin: Redis, front: Front, workers: Workers
) -> None:
    client = JobQueue(admin)
    boss = Orchestrator(own_valkey.folder / "control.sock")
    async with await boss.serve():
        start = partial(
            workers.start, through(front, own_valkey), MACHINE_CONTROL_SOCKET=str(boss.path),
            WORKER_ID="w-1",
        )  # fmt: skip
        worker = await start()
        await boss.wait_for("standby")
        boss.tell(do="go")
        await client.submit(
            {"words": 3 * 2**20, "wait": "go"}, service_required="simulation", job_id="large"
        )
        await boss.wait_for("job_taken", job_id="large")
        front.cut()
        (workers.folder / "go").touch()
        outbox = own_valkey.folder / "outbox" / "w-1"
        async with asyncio.timeout(PATIENCE):
            while not list(outbox.glob("*.json")):  # noqa: ASYNC110 - no event
                await asyncio.sleep(0.01)
        worker.kill()
        await worker.wait()
        await admin.config_set("client-query-buffer-limit", 2**20)
        front.mend()
        await start()
        await boss.wait_for("standby")
        boss.tell(do="go")
        end = await end_of(client, "large")
        assert end.job
        assert (end.kind, end.job.fence, end.job.error_details["code"]) == (
            "failed", 2, "result-too-large",
        )  # fmt: skip
    await forgotten(outbox)


async def test_a_worker_without_a_machine_leaves_its_results_in_the_folder_it_is_given(
    own_valkey: Any, admin: Redis, front: Front, workers: Workers
) -> None:
    client, outbox = JobQueue(admin), own_valkey.folder / "kept"
    start = partial(workers.start, through(front, own_valkey), WORKER_OUTBOX=str(outbox))
    worker = await start()
    await client.submit({"wait": "go"}, service_required="simulation", job_id="first")
    async with asyncio.timeout(PATIENCE):
        while "run first 1" not in workers.journal():  # noqa: ASYNC110 - no event
            await asyncio.sleep(0.01)
        front.cut()
        (workers.folder / "go").touch()
        while not list(outbox.glob("m1-worker-fake-0/*.json")):  # noqa: ASYNC110 - no event
            await asyncio.sleep(0.01)
    worker.kill()
    await worker.wait()
    front.mend()
    await start()
    end = await end_of(client, "first")
    assert end.job
    assert (end.kind, end.job.fence) == ("completed", 1)
    assert [line for line in workers.journal() if line.startswith("run")] == ["run first 1"]
    await forgotten(outbox)


async def test_a_worker_comes_to_a_server_that_is_full_and_does_what_it_holds(
    own_valkey: Any, admin: Redis, workers: Workers
) -> None:
    client = JobQueue(admin)
    await client.submit({}, service_required="simulation", job_id="held")
    await admin.config_set("maxmemory", 1)
    await workers.start(own_valkey.url, WORKER_ID="w-1")
    end = await end_of(client, "held")
    assert end.job
    assert (end.kind, end.job.worker_id) == ("completed", "w-1")
    assert await admin.sismember(keys.ACTIVE_WORKERS, "w-1")
    assert 0 < await admin.ttl(keys.heartbeat("w-1")) <= 60
    assert 60 < await admin.ttl(keys.worker("w-1")) <= 120


async def test_a_worker_waits_for_room_where_a_full_server_lacks_the_functions_and_says_so(
    own_valkey: Any, admin: Redis, workers: Workers
) -> None:
    boss = Orchestrator(own_valkey.folder / "control.sock")
    await admin.config_set("maxmemory", 1)
    async with await boss.serve():
        worker = await workers.start(
            own_valkey.url, MACHINE_CONTROL_SOCKET=str(boss.path), WORKER_ID="w-1"
        )
        await boss.wait_for("standby")
        boss.tell(do="go")
        for _ in range(2):
            error = (await boss.wait_for("trouble"))["error"]
            assert error["code"] == "redis-refuses"
            assert "takes nothing more, its memory is full: OOM command" in error["summary"]
        assert worker.returncode is None
        await admin.config_set("maxmemory", 0)
        await boss.wait_for("connected")
        client = JobQueue(admin)
        await client.submit({}, service_required="simulation", job_id="next")
        assert (await end_of(client, "next")).kind == "completed"


async def test_results_wait_until_a_key_that_somebody_else_has_taken_is_free(
    own_valkey: Any, admin: Redis, workers: Workers
) -> None:
    client = JobQueue(admin)
    boss = Orchestrator(own_valkey.folder / "control.sock")
    async with await boss.serve():
        worker = await workers.start(
            own_valkey.url, MACHINE_CONTROL_SOCKET=str(boss.path), WORKER_ID="w-1"
        )
        await boss.wait_for("standby")
        boss.tell(do="go")
        await boss.wait_for("connected")
        for key in (keys.COMPLETED, keys.PENDING, keys.LEASES):
            await client.submit({"wait": key}, service_required="simulation", job_id=f"first {key}")
            await boss.wait_for("job_taken", job_id=f"first {key}")
            if key != keys.PENDING:
                await client.submit({}, service_required="simulation", job_id=f"next {key}")
            own = f"{key}.own"
            if await admin.exists(key):
                await admin.rename(key, own)
            await admin.set(key, "somebody else's")
            (workers.folder / key).touch()
            error = (await boss.wait_for("trouble"))["error"]
            assert error["code"] == "redis-key-foreign"
            assert f"the key {key} is no " in error["summary"]
            await admin.rename(key, f"{key}.aside")
            if await admin.exists(own):
                await admin.rename(own, key)
            await boss.wait_for("connected")  # which takes the trouble back
            for job_id in (f"first {key}", *([f"next {key}"] if key != keys.PENDING else [])):
                end = await end_of(client, job_id)
                assert end.job
                assert (end.kind, end.job.fence) == ("completed", 1)
                assert await admin.hget(keys.COMPLETED, job_id)
        assert worker.returncode is None
        runs = [line for line in workers.journal() if line.startswith("run")]
        assert len(runs) == len(set(runs)) == 5


async def test_an_error_waits_until_the_record_of_errors_is_free_and_stays_the_cause(
    own_valkey: Any, admin: Redis, workers: Workers
) -> None:
    client = JobQueue(admin)
    boss = Orchestrator(own_valkey.folder / "control.sock")
    async with await boss.serve():
        await workers.start(own_valkey.url, MACHINE_CONTROL_SOCKET=str(boss.path), WORKER_ID="w-1")
        await boss.wait_for("standby")
        boss.tell(do="go")
        await boss.wait_for("connected")
        await admin.set(keys.FAILED, "somebody else's")
        await client.submit({"fail": "for good"}, service_required="simulation", job_id="bad")
        error = (await boss.wait_for("trouble"))["error"]
        assert error["code"] == "redis-key-foreign"
        assert f"the key {keys.FAILED} is no hash" in error["summary"]
        assert (await client.get("bad")).status in {"assigned", "in_progress"}
        await admin.rename(keys.FAILED, f"{keys.FAILED}.aside")
        await boss.wait_for("connected")
        await boss.wait_for("job_done", job_id="bad", outcome="failed")
        record = await client.get("bad")
        assert (record.status, record.error) == ("failed", "The fake was told to refuse for good.")
        assert await admin.hexists(keys.FAILED, "bad")
