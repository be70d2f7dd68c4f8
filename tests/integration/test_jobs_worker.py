"""The worker as a real process, with a real Valkey and a connector that does what it is told."""

from __future__ import annotations

import asyncio
import json
import signal
from typing import Any

import pytest
from redis.asyncio import Redis

from machine_lifecycle.jobs.client import JobQueue, open_job_queue
from machine_lifecycle.jobs.outputs import SMALL
from machine_lifecycle.system.redis import connect
from tests.support.patience import PATIENCE
from tests.support.workers import ROUTES, Orchestrator, Workers, end_of, halfway, until


async def test_a_job_goes_all_the_way(valkey: Any, redis: Redis, workers: Workers) -> None:
    client = JobQueue(redis)
    worker = await workers.start(valkey.url)
    job_id = await client.submit({"bytes": 1000}, service_required="simulation")
    end = await end_of(client, job_id)
    assert end.kind == "completed"
    (output,) = await client.outputs(job_id)
    assert (output.name, output.data, output.node) == ("a.png", b"\xff" * 1000, "9")
    assert 0 < await redis.ttl(f"job:{job_id}:output:0") <= 86400
    assert await redis.exists("worker:completion:step-id:" + job_id + ":attempt:1")
    facts = await redis.hgetall("worker:m1-worker-fake-0")
    assert json.loads(facts["capabilities"])["hardware"]["gpu_memory_gb"] == 24
    assert facts["total_jobs_completed"] == "1"
    assert await redis.smembers("workers:active") == {"m1-worker-fake-0"}
    worker.terminate()
    assert await worker.wait() == 0
    assert await redis.keys("worker:m1*") == []
    assert await redis.smembers("workers:active") == set()


async def test_failures_are_tried_again_or_not(valkey: Any, redis: Redis, workers: Workers) -> None:
    client = JobQueue(redis)
    await workers.start(valkey.url)
    once = await client.submit({"fail": "once"}, service_required="simulation")
    final = await client.submit({"fail": "for good"}, service_required="simulation")
    bug = await client.submit({"fail": "bug"}, service_required="simulation", max_retries=2)
    assert (await end_of(client, once)).kind == "completed"
    failed = await end_of(client, final)
    assert failed.kind == "failed"
    assert failed.job
    assert failed.job.error_details["code"] == "fake-refusal"
    crashed = await end_of(client, bug)
    assert "a bug" in crashed.message
    runs = [line for line in workers.journal() if line.startswith("run")]
    assert sum(once in line for line in runs) == 2
    assert sum(final in line for line in runs) == 1
    assert sum(bug in line for line in runs) == 2


async def test_a_result_that_is_no_json_fails_its_job_only(
    valkey: Any, redis: Redis, workers: Workers
) -> None:
    client = JobQueue(redis)
    await workers.start(valkey.url)
    for size in (0, 10):  # with files it goes another way
        payload: dict[str, Any] = {"fail": "no json", "bytes": size}
        job_id = await client.submit(payload, service_required="simulation", max_retries=1)
        end = await end_of(client, job_id)
        assert end.kind == "failed"
        assert "not JSON serializable" in end.message
    large = await client.submit({"words": 70_000_000}, service_required="simulation")
    end = await end_of(client, large)
    assert end.job
    assert (end.kind, end.job.retry_count) == ("failed", 0)
    assert end.job.error_details["code"] == "result-too-large"
    assert "66.8 MiB of JSON, more than 64.0 MiB" in end.message
    good = await client.submit({}, service_required="simulation")
    assert (await end_of(client, good)).kind == "completed"


async def test_cancelling_reaches_a_running_job(
    valkey: Any, redis: Redis, workers: Workers
) -> None:
    client = JobQueue(redis)
    await workers.start(valkey.url)
    job_id = await client.submit({"wait": "never"}, service_required="simulation")
    await halfway(client, job_id)
    assert await client.cancel(job_id) == "cancelling"
    assert (await end_of(client, job_id)).kind == "cancelled"
    assert f"cancelled {job_id}" in workers.journal()


async def test_a_connector_that_can_not_cancel_fails_no_more_than_that(
    valkey: Any, redis: Redis, workers: Workers
) -> None:
    client = JobQueue(redis)
    worker = await workers.start(valkey.url)
    (workers.folder / "stubborn").touch()
    job_id = await client.submit({"wait": "never"}, service_required="simulation")
    await halfway(client, job_id)
    await client.cancel(job_id)
    assert (await end_of(client, job_id)).kind == "cancelled"
    following = await client.submit({}, service_required="simulation")
    assert (await end_of(client, following)).kind == "completed"
    assert worker.returncode is None


async def test_progress_that_can_not_be_told_does_not_end_the_telling(
    valkey: Any, redis: Redis, workers: Workers
) -> None:
    client = JobQueue(redis)
    await workers.start(valkey.url)
    job_id = await client.submit({"mumble": True, "wait": "go"}, service_required="simulation")
    seen = await until(client.watch(job_id), lambda event: event.percent >= 75)
    assert seen.message == "clear again"
    (workers.folder / "go").touch()
    assert (await end_of(client, job_id)).kind == "completed"


async def test_the_next_job_begins_while_results_are_fetched(
    valkey: Any, redis: Redis, workers: Workers
) -> None:
    client = JobQueue(redis)
    await workers.start(valkey.url)
    first, second, third = [
        await client.submit(
            {"made": True, "wait": name}, service_required="simulation", priority=priority
        )
        for name, priority in (("first", 90), ("second", 80), ("third", 70))
    ]
    await halfway(client, second)
    running = [line for line in workers.journal() if line.startswith("run")]
    assert running == [f"run {first} 1", f"run {second} 1"]
    assert (await client.get(third)).status == "pending", "results must not pile up"
    assert await client.cancel(first) == "cancelling"
    assert (await end_of(client, first)).kind == "cancelled"
    await halfway(client, third)
    for name in ("third", "second"):
        (workers.folder / name).touch()
    for job_id in (second, third):
        assert (await end_of(client, job_id)).kind == "completed"


async def test_a_job_that_takes_too_long_is_stopped(
    valkey: Any, redis: Redis, workers: Workers
) -> None:
    client = JobQueue(redis)
    await workers.start(valkey.url)
    job_id = await client.submit(
        {"wait": "never"}, service_required="simulation", timeout_minutes=0.005, max_retries=1
    )
    end = await end_of(client, job_id)
    assert end.job
    assert end.job.error_details["code"] == "job-timeout"


async def test_sigterm_hands_the_job_back_and_does_not_wait_for_its_end(
    valkey: Any, redis: Redis, workers: Workers
) -> None:
    client = JobQueue(redis)
    first = await workers.start(valkey.url)
    job_id = await client.submit({"wait": "go"}, service_required="simulation")
    await halfway(client, job_id)
    first.terminate()
    async with asyncio.timeout(PATIENCE):  # the job waits for longer
        assert await first.wait() == 0
    record = await client.get(job_id)
    assert (record.status, record.retry_count) == ("pending", 0)
    (workers.folder / "go").touch()
    await workers.start(valkey.url, index=1)
    assert (await end_of(client, job_id)).kind == "completed"


async def test_a_killed_workers_job_is_done_by_its_successor(
    valkey: Any, redis: Redis, workers: Workers
) -> None:
    client = JobQueue(redis)
    first = await workers.start(valkey.url)
    job_id = await client.submit({"wait": "go"}, service_required="simulation")
    await halfway(client, job_id)
    first.kill()
    await first.wait()
    (workers.folder / "go").touch()
    await workers.start(valkey.url)
    end = await end_of(client, job_id)
    assert end.kind == "completed"
    assert end.job
    assert end.job.fence == 2


async def test_what_a_service_says_in_no_text_is_told_as_far_as_it_is_some(
    valkey: Any, redis: Redis, workers: Workers
) -> None:
    await workers.start(valkey.url)
    client = JobQueue(redis)
    payload = {"fail": "half a character"}
    job_id = await client.submit(payload, service_required="simulation", max_retries=2)
    end = await end_of(client, job_id)
    assert end.job
    assert (end.kind, end.job.fence) == ("failed", 2), "it was tried again"
    assert end.job.error.endswith("can't open caf?.png")


async def test_an_error_that_can_not_be_told_costs_its_job_alone(
    valkey: Any, redis: Redis, workers: Workers
) -> None:
    client = JobQueue(redis)
    worker = await workers.start(valkey.url)
    payload = {"fail": "without words"}
    job_id = await client.submit(payload, service_required="simulation", max_retries=1)
    end = await end_of(client, job_id)
    assert end.job
    assert (end.kind, end.job.fence) == ("failed", 1)
    assert end.job.error_details["code"] == "job-crashed"
    assert end.job.error.endswith("FakeMute: its words can't be told: a bug in its words")
    job_id = await client.submit({}, service_required="simulation")
    assert (await end_of(client, job_id)).kind == "completed"
    assert worker.returncode is None


@pytest.mark.parametrize("result", ["none", "other", "odd", "odder"])
async def test_what_is_no_result_costs_its_job_alone(
    valkey: Any, redis: Redis, workers: Workers, result: str
) -> None:
    client = JobQueue(redis)
    worker = await workers.start(valkey.url)
    payload = {"result": result}
    job_id = await client.submit(payload, service_required="simulation", max_retries=1)
    end = await end_of(client, job_id)
    assert end.job
    assert (end.kind, end.job.fence) == ("failed", 1)
    assert end.job.error_details["code"] == "job-crashed"
    job_id = await client.submit({}, service_required="simulation")
    assert (await end_of(client, job_id)).kind == "completed"
    assert worker.returncode is None


async def test_a_connector_that_breaks_while_it_looks_is_a_service_that_is_down(
    own_valkey: Any, workers: Workers
) -> None:
    boss = Orchestrator(own_valkey.folder / "control.sock")
    broken = workers.folder / "broken"
    broken.touch()
    async with await boss.serve(), open_job_queue(own_valkey.url) as client:
        worker = await workers.start(own_valkey.url, MACHINE_CONTROL_SOCKET=str(boss.path))
        await boss.wait_for("standby")
        boss.tell(do="go")
        error = (await boss.wait_for("trouble"))["error"]
        assert (error["code"], "RuntimeError: a bug in probe" in error["summary"]) == (
            "service-down", True,
        )  # fmt: skip
        broken.unlink()
        await boss.wait_for("connected")
        job_id = await client.submit({}, service_required="simulation")
        assert (await end_of(client, job_id)).kind == "completed"
        assert worker.returncode is None


async def test_a_connector_that_breaks_at_its_warm_up_tries_again(
    own_valkey: Any, workers: Workers
) -> None:
    boss = Orchestrator(own_valkey.folder / "control.sock")
    graph = workers.folder / "graph.json"
    graph.write_text('{"fail": "bug"}', encoding="utf-8")
    async with await boss.serve():
        worker = await workers.start(
            own_valkey.url, MACHINE_CONTROL_SOCKET=str(boss.path),
            WORKER_WARMUPS=json.dumps({"fake": {"file": str(graph), "timeout": 30}}),
        )  # fmt: skip
        await boss.wait_for("standby")
        boss.tell(do="go")
        error = (await boss.wait_for("trouble"))["error"]
        assert error["code"] == "warm-up-failed"
        assert error["summary"].endswith(" failed: RuntimeError: a bug")
        graph.write_text("{}", encoding="utf-8")
        await boss.wait_for("connected")
        assert worker.returncode is None


async def test_a_successor_that_came_at_once_keeps_its_jobs(
    valkey: Any, redis: Redis, workers: Workers
) -> None:
    client = JobQueue(redis)
    first = await workers.start(valkey.url, WORKER_ID="w-1")
    job_id = await client.submit({"wait": "never"}, service_required="simulation")
    await halfway(client, job_id)
    first.kill()
    await first.wait()
    second = await workers.start(valkey.url, WORKER_ID="w-1")
    async with asyncio.timeout(PATIENCE):
        while (await client.get(job_id)).fence < 2:  # noqa: ASYNC110 - no event for it
            await asyncio.sleep(0.01)  # sleep: between two looks
    # The first one's death is told late.
    assert await client.release_worker("w-1", "it died", pid=first.pid) == ()
    assert (await client.get(job_id)).status in {"assigned", "in_progress"}
    second.kill()
    await second.wait()
    assert await client.release_worker("w-1", "it died", pid=second.pid) == (job_id,)
    await client.cancel(job_id)


async def test_a_frozen_worker_loses_its_job_and_its_late_result_is_refused(
    valkey: Any, redis: Redis, workers: Workers
) -> None:
    client = JobQueue(redis)
    first = await workers.start(valkey.url, WORKER_HEARTBEAT_INTERVAL_MS="200")
    job_id = await client.submit({"wait": "go"}, service_required="simulation")
    await halfway(client, job_id)
    first.send_signal(signal.SIGSTOP)
    await workers.start(valkey.url, index=1, WORKER_HEARTBEAT_INTERVAL_MS="200")
    await until(client.watch(job_id), lambda event: event.worker_id == "m1-worker-fake-1")
    (workers.folder / "go").touch()
    end = await end_of(client, job_id)
    assert end.job
    assert (end.kind, end.job.worker_id) == ("completed", "m1-worker-fake-1")
    first.send_signal(signal.SIGCONT)
    first.terminate()
    assert await first.wait() == 0, "what it had to say is said"
    record = await client.get(job_id)
    assert (record.status, record.worker_id) == ("completed", "m1-worker-fake-1")
    assert (record.fence, record.retry_count) == (end.job.fence, end.job.retry_count)


async def test_a_service_that_breaks_costs_no_attempt(
    valkey: Any, redis: Redis, workers: Workers
) -> None:
    client = JobQueue(redis)
    await workers.start(valkey.url)
    job_id = await client.submit({"break_service": True}, service_required="simulation")
    async with asyncio.timeout(PATIENCE):
        while "crashes" not in (await client.get(job_id)).fields:  # noqa: ASYNC110 - no event for it
            await asyncio.sleep(0.02)
    record = await client.get(job_id)
    assert (record.status, record.retry_count, record.fields["crashes"]) == ("pending", 0, "1")
    assert len([line for line in workers.journal() if line.startswith("run")]) == 1


async def test_redis_may_restart_in_the_middle_of_a_job(own_valkey: Any, workers: Workers) -> None:
    redis = connect(own_valkey.url)
    client = JobQueue(redis)
    worker = await workers.start(own_valkey.url)
    job_id = await client.submit({"wait": "go"}, service_required="simulation")
    await halfway(client, job_id)
    own_valkey.stop()
    (workers.folder / "go").touch()
    async with asyncio.timeout(PATIENCE):
        while f"end {job_id}" not in workers.journal():  # noqa: ASYNC110 - no event for it
            await asyncio.sleep(0.02)
    own_valkey.start()
    assert (await end_of(client, job_id)).kind == "completed"
    second = await client.submit({}, service_required="simulation")
    assert (await end_of(client, second)).kind == "completed"
    assert len([line for line in workers.journal() if line.startswith(f"run {job_id}")]) == 1
    own_valkey.stop()
    worker.terminate()
    async with asyncio.timeout(PATIENCE):  # Redis does not come back
        assert await worker.wait() == 0
    await redis.aclose()


async def test_a_big_output_goes_by_reference(valkey: Any, redis: Redis, workers: Workers) -> None:
    client = JobQueue(redis)
    await workers.start(valkey.url)
    job_id = await client.submit({"bytes": SMALL + 1}, service_required="simulation")
    assert (await end_of(client, job_id)).kind == "completed"
    (output,) = await client.outputs(job_id)
    assert (output.data, output.reference) == (b"", "/view?filename=a.png")
    record = await client.get(job_id)
    assert record.result
    assert record.result["output_files"][0]["size_bytes"] == SMALL + 1
    assert await redis.exists(f"job:{job_id}:output:0") == 0


async def test_one_worker_drives_two_services(valkey: Any, redis: Redis, workers: Workers) -> None:
    client = JobQueue(redis)
    second = {"asks": "upscale", "service": "other", "connector": ROUTES[0]["connector"]}
    await workers.start(valkey.url, WORKER_ROUTES=json.dumps([*ROUTES, second]))
    jobs = {
        service: await client.submit({}, service_required=asked)
        for service, asked in (("fake", "simulation"), ("other", "upscale"))
    }
    for service, job_id in jobs.items():
        assert (await end_of(client, job_id)).kind == "completed"
        record = await client.get(job_id)
        assert record.result
        assert record.result["service_metadata"]["service_type"] == service
    facts = await redis.hgetall("worker:m1-worker-fake-0")
    assert json.loads(facts["capabilities"])["services"] == ["simulation", "upscale"]


@pytest.mark.usefixtures("redis")
async def test_the_orchestrator_leads_the_worker(
    valkey: Any, redis: Redis, workers: Workers
) -> None:
    client = JobQueue(redis)
    boss = Orchestrator(valkey.folder / "control.sock")
    async with await boss.serve():
        job_id = await client.submit({"wait": "go"}, service_required="simulation")
        worker = await workers.start(valkey.url, MACHINE_CONTROL_SOCKET=str(boss.path))
        hello = await boss.wait_for("worker")
        assert hello["pid"] == worker.pid
        await boss.wait_for("standby")
        assert await redis.exists("worker:m1-worker-fake-0") == 0
        boss.tell(do="go")
        await boss.wait_for("connected")
        await boss.wait_for("job_taken", job_id=job_id)
        boss.hang_up()
        await boss.wait_for("worker")
        await boss.wait_for("connected")
        await boss.wait_for("job_taken", job_id=job_id)
        boss.tell(do="release")
        await boss.wait_for("job_done", outcome="released")
        await boss.wait_for("job_taken", job_id=job_id)
        boss.tell(do="pause")  # its service is gone, so nothing will come of the run
        await boss.wait_for("job_done", outcome="released")
        shown = await client.get(job_id)
        assert (shown.status, shown.fields["crashes"]) == ("pending", "1")
        boss.tell(do="go")
        await boss.wait_for("job_taken", job_id=job_id)
        boss.tell(do="drain")
        await boss.wait_for("status", status="draining")
        boss.tell(do="cancel", job_id=job_id)
        await boss.wait_for("job_done", outcome="cancelled")
        boss.tell(do="stop")
        assert await worker.wait() == 0
    boss.path.unlink(missing_ok=True)


async def test_a_result_outlives_redis_and_then_its_worker(
    own_valkey: Any, workers: Workers
) -> None:
    redis = connect(own_valkey.url)
    client = JobQueue(redis)
    boss = Orchestrator(own_valkey.folder / "control.sock")
    outbox = own_valkey.folder / "outbox" / "w-1"
    async with await boss.serve():
        job_id = await client.submit({"wait": "go", "bytes": 1000}, service_required="simulation")
        worker = await workers.start(
            own_valkey.url, MACHINE_CONTROL_SOCKET=str(boss.path), WORKER_ID="w-1"
        )
        await boss.wait_for("standby")
        boss.tell(do="go")
        await halfway(client, job_id)
        own_valkey.stop()
        (workers.folder / "go").touch()
        async with asyncio.timeout(PATIENCE):
            while not list(outbox.glob("*.json")):  # noqa: ASYNC110 - no event for it
                await asyncio.sleep(0.02)
        (kept,) = outbox.glob("*.json")
        assert kept.stat().st_mode & 0o777 == 0o600
        worker.kill()
        await worker.wait()
        own_valkey.start()
        await workers.start(own_valkey.url, MACHINE_CONTROL_SOCKET=str(boss.path), WORKER_ID="w-1")
        await boss.wait_for("standby")
        boss.tell(do="go")
        end = await end_of(client, job_id)
        assert end.job
        assert (end.kind, end.job.fence) == ("completed", 1)
        (output,) = await client.outputs(job_id)
        assert output.data == b"\xff" * 1000
        assert len([line for line in workers.journal() if line.startswith(f"run {job_id}")]) == 1
        await boss.wait_for("connected")
        assert not list(outbox.glob("*.json"))
    await redis.aclose()


async def test_a_result_outlives_a_frozen_redis_that_never_wakes(
    own_valkey: Any, workers: Workers
) -> None:
    redis = connect(own_valkey.url)
    client = JobQueue(redis)
    boss = Orchestrator(own_valkey.folder / "control.sock")
    async with await boss.serve():
        job_id = await client.submit({"wait": "go"}, service_required="simulation")
        worker = await workers.start(
            own_valkey.url, MACHINE_CONTROL_SOCKET=str(boss.path), WORKER_ID="w-1"
        )
        await boss.wait_for("standby")
        boss.tell(do="go")
        await halfway(client, job_id)
        own_valkey.process.send_signal(signal.SIGSTOP)
        (workers.folder / "go").touch()
        async with asyncio.timeout(PATIENCE):
            while f"end {job_id}" not in workers.journal():  # noqa: ASYNC110 - no event for it
                await asyncio.sleep(0.02)
        worker.send_signal(signal.SIGTERM)  # while its result is on its way
        assert await worker.wait() == 0
        own_valkey.stop(signal.SIGKILL)
        own_valkey.start()
        await workers.start(own_valkey.url, MACHINE_CONTROL_SOCKET=str(boss.path), WORKER_ID="w-1")
        await boss.wait_for("standby")
        boss.tell(do="go")
        end = await end_of(client, job_id)
        assert end.job
        assert (end.kind, end.job.fence) == ("completed", 1)
        assert len([line for line in workers.journal() if line.startswith(f"run {job_id}")]) == 1
    await redis.aclose()


async def test_ten_jobs_at_a_time(valkey: Any, redis: Redis, workers: Workers) -> None:
    client = JobQueue(redis)
    await workers.start(valkey.url, WORKER_MAX_CONCURRENT_JOBS="10")
    ids = [await client.submit({"wait": "go"}, service_required="simulation") for _ in range(15)]
    async with asyncio.timeout(PATIENCE):
        while len(workers.journal()) < 10:  # noqa: ASYNC110 - no event for it
            await asyncio.sleep(0.02)
    assert (await client.counts())["active"] == 10
    assert await client.cancel(ids[3]) == "cancelling"
    assert (await end_of(client, ids[3])).kind == "cancelled"
    (workers.folder / "go").touch()
    kinds = [(await end_of(client, job_id)).kind for job_id in ids]
    assert kinds == ["cancelled" if number == 3 else "completed" for number in range(15)]
    facts = await redis.hgetall("worker:m1-worker-fake-0")
    assert json.loads(facts["capabilities"])["performance"]["concurrent_jobs"] == 10


async def test_a_service_that_fails_job_after_job_is_given_a_rest(
    valkey: Any, redis: Redis, workers: Workers
) -> None:
    client = JobQueue(redis)
    boss = Orchestrator(valkey.folder / "control.sock")
    async with await boss.serve():
        wrong = await client.submit({"fail": "for good"}, service_required="simulation")
        for _ in range(6):
            await client.submit({"fail": True}, service_required="simulation", max_retries=1)
        await workers.start(valkey.url, MACHINE_CONTROL_SOCKET=str(boss.path), WORKER_ID="w-1")
        await boss.wait_for("standby")
        boss.tell(do="go")
        trouble = await boss.wait_for("trouble")
        assert trouble["error"]["code"] == "service-failing"
        assert "failed 5 jobs in a row" in trouble["error"]["summary"]
        await boss.wait_for("status", status="paused")
        assert (await client.get(wrong)).status == "failed"
        assert (await client.counts())["pending"] == 1
        boss.tell(do="go")
        async with asyncio.timeout(PATIENCE):
            while (await client.counts())["pending"]:  # noqa: ASYNC110 - no event for it
                await asyncio.sleep(0.02)
    boss.path.unlink(missing_ok=True)


async def test_jobs_may_require_where_a_machine_stands_and_what_it_costs(
    valkey: Any, redis: Redis, workers: Workers
) -> None:
    queue = JobQueue(redis)
    await workers.start(
        valkey.url, WORKER_REGION="eu-1", WORKER_COMPLIANCE="gdpr", WORKER_COST_TIER="economy"
    )
    asked: tuple[dict[str, Any], ...] = (
        {"location.region": "eu-1", "cost.tier": "economy"},
        {"location": {"compliance_zones": ["gdpr"]}},
    )
    for requirements in asked:
        job_id = await queue.submit({}, service_required="simulation", requirements=requirements)
        assert (await end_of(queue, job_id)).kind == "completed"
    elsewhere = await queue.submit(
        {}, service_required="simulation", requirements={"location.region": "us-1"}
    )
    assert (await queue.get(elsewhere)).status == "unworkable"
