"""Jobs over several worker processes while everything that can break does: each ends once.

The ledger is the service's own. In full: ``python -m tests.integration.test_jobs_chaos --workers 20
--jobs 10000``; it takes some four minutes on two cores.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import attrs
import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from machine_lifecycle.errors import LifecycleError
from machine_lifecycle.jobs.client import JobQueue
from machine_lifecycle.jobs.score import score
from machine_lifecycle.system.redis import connect
from machine_lifecycle.system.redis_keys import iso
from tests.support.chaos_service import LedgerService
from tests.support.patience import PATIENCE
from tests.support.redis_server import ValkeyServer

SUPPORT = Path(__file__).parents[1] / "support"
ROUTES = [{"asks": "simulation", "service": "chaos", "connector": "chaos_service:ChaosConnector"}]
LEASE = 1.0
"""Seconds; what a heartbeat of 300 ms makes of it."""


@attrs.frozen(kw_only=True)
class Scale:
    """How much of it: jobs are submitted until there are so many, or enough is broken."""

    seed: int = 20
    workers: int = 4
    jobs: int = 1_000_000
    rounds: int = 1_000_000
    """In each of which every kind of thing breaks once."""


@attrs.define
class Chaos:
    """One run of it."""

    scale: Scale
    folder: Path
    valkey: ValkeyServer
    service: LedgerService
    random: random.Random
    redis: Any
    done: Counter[str] = attrs.field(factory=Counter)
    ids: list[str] = attrs.field(factory=list)
    workers: dict[int, asyncio.subprocess.Process] = attrs.field(factory=dict)
    enough: bool = False

    async def start(self, index: int) -> None:
        environ = dict(os.environ)  # noqa: TID251 - a child needs PATH and the like
        environ |= {
            "PYTHONPATH": str(SUPPORT),
            "FAKE_FOLDER": str(self.folder),
            "HUB_REDIS_URL": self.valkey.url,
            "MACHINE_ID": "chaos",
            "CONNECTORS": "chaos",
            "WORKER_ROUTES": json.dumps(ROUTES),
            "WORKER_RETRY_BACKOFF_MS": "50",
            "WORKER_HEARTBEAT_INTERVAL_MS": "300",
            "WORKER_POLL_INTERVAL_MS": "200",
        }
        self.workers[index] = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "machine_lifecycle", "redis-worker", f"--index={index}",
            env=environ, cwd=self.folder,
        )  # fmt: skip

    # What breaks

    async def kill_worker(self, index: int) -> None:
        process = self.workers[index]
        process.kill()
        await process.wait()
        await self.start(index)

    async def freeze_worker(self, index: int) -> None:
        process = self.workers[index]
        process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(self.random.uniform(1.2, 2.5) * LEASE)
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGCONT)

    async def restart_redis(self, _index: int) -> None:
        self.valkey.stop(self.random.choice([signal.SIGKILL, signal.SIGTERM]))
        await asyncio.sleep(self.random.uniform(0.1, 1.0))
        await asyncio.to_thread(self.valkey.start)

    async def cut_sockets(self, _index: int) -> None:
        with contextlib.suppress(RedisError, OSError):
            kind = self.random.choice(["normal", "pubsub"])
            await self.redis.execute_command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")

    async def forget_functions(self, _index: int) -> None:
        await self._have("FUNCTION", "FLUSH")

    async def fill_memory(self, _index: int) -> None:
        await self._for_a_while(
            ("CONFIG", "SET", "maxmemory", 1), ("CONFIG", "SET", "maxmemory", 0)
        )

    async def become_a_replica(self, _index: int) -> None:
        await self._for_a_while(("REPLICAOF", "127.0.0.1", 1), ("REPLICAOF", "NO", "ONE"))

    async def _for_a_while(self, begin: tuple[Any, ...], end: tuple[Any, ...]) -> None:
        await self._have(*begin)
        await asyncio.sleep(self.random.uniform(0.1, 0.5))
        await self._have(*end)

    async def _have(self, *order: Any) -> None:
        """Give an order until it is done: the server may be loading its data."""
        while True:
            with contextlib.suppress(RedisError, OSError):
                await self.redis.execute_command(*order)
                return
            await asyncio.sleep(0.05)  # sleep: it tells nobody when it is ready

    async def cancel_one(self, _index: int) -> None:
        if self.ids:
            with contextlib.suppress(RedisError, OSError, LifecycleError):
                await JobQueue(self.redis).cancel(self.random.choice(self.ids[-3:]))

    async def break_things(self, submitting: asyncio.Task[None]) -> None:
        kinds = [
            self.kill_worker, self.freeze_worker, self.restart_redis, self.cut_sockets,
            self.forget_functions, self.fill_memory, self.become_a_replica, self.cancel_one,
            self.cancel_one,
        ]  # fmt: skip
        for _ in range(self.scale.rounds):
            for kind in self.random.sample(kinds, k=len(kinds)):
                await asyncio.sleep(self.random.uniform(0.2, 0.7))
                if submitting.done():
                    return
                self.done[kind.__name__] += 1
                await kind(self.random.randrange(self.scale.workers))
        self.enough = True

    # What is asked

    async def submit(self) -> None:
        client = JobQueue(self.redis)
        for number in range(1, self.scale.jobs + 1):
            if self.enough:
                break
            job_id = f"{self.scale.seed}-{number:05}"
            while True:
                with contextlib.suppress(RedisError, OSError):
                    if number % 5:
                        await client.submit({}, service_required="simulation", job_id=job_id)
                    else:
                        await self._put(job_id)
                    break
                await asyncio.sleep(0.05)  # sleep: Redis is away, and tells nobody when it is back
            self.ids.append(job_id)
            await asyncio.sleep(self.random.uniform(0, 0.02))

    async def _put(self, job_id: str) -> None:
        """As other parties do, who know of no index."""
        if await self.redis.exists(f"job:{job_id}"):
            return
        now = time.time_ns() // 1_000_000
        pipeline = self.redis.pipeline()
        pipeline.hset(
            f"job:{job_id}",
            mapping={
                "id": job_id, "service_required": "simulation", "priority": "50", "payload": "{}",
                "requirements": "", "customer_id": "", "status": "pending", "retry_count": "0",
                "max_retries": "3", "created_at": iso(now),
            },
        )  # fmt: skip
        pipeline.zadd("jobs:pending", {job_id: score(50, now)})
        await pipeline.execute()

    # What must be

    async def settle(self) -> None:
        """Return when every job has ended."""
        open_ids = set(self.ids)
        deadline = time.monotonic() + 3 * PATIENCE
        while open_ids:
            if time.monotonic() > deadline:
                raise AssertionError(await self._left(open_ids))
            with contextlib.suppress(RedisError, OSError):
                for job_id in list(open_ids):
                    if (await self.redis.hget(f"job:{job_id}", "status")) in {
                            "completed", "cancelled", "failed",
                        }:  # fmt: skip
                        open_ids.discard(job_id)
            await asyncio.sleep(0.1)  # sleep: nothing that tells of ends survives the chaos

    async def _left(self, open_ids: set[str]) -> str:
        """What is known of jobs that do not end."""
        ended = {index: process.returncode for index, process in self.workers.items()}
        lines = [f"{len(open_ids)} jobs do not end; workers' exits: {ended}"]
        for job_id in sorted(open_ids)[:3]:
            fields = await self.redis.hgetall(f"job:{job_id}")
            places = [
                await self.redis.zscore(name, job_id) for name in ("jobs:pending", "jobs:leases")
            ]
            steps = [entry["status"] for _, entry in await self.redis.xrange(f"progress:{job_id}")]
            lines.append(f"{job_id}: {fields} pending and lease {places}, steps {steps}")
        return "\n".join([*lines, *sorted(await self.redis.keys("jobs:*"))])

    async def check(self) -> Counter[str]:
        ends: Counter[str] = Counter()
        for job_id in self.ids:
            fields = await self.redis.hgetall(f"job:{job_id}")
            steps = [entry["status"] for _, entry in await self.redis.xrange(f"progress:{job_id}")]
            terminal = [step for step in steps if step in {"completed", "cancelled", "failed"}]
            at_once = fields["status"] == "completed" and fields["fence"] == "1" and not steps
            assert at_once or terminal == [fields["status"]], f"{job_id} ended {terminal}: {steps}"
            ends[fields["status"]] += 1
            if fields["status"] == "completed":
                kept = json.loads(await self.redis.hget("jobs:completed", job_id))
                run = kept["data"]["data"]["run"]
                assert run in self.service.ended[job_id], "a result that the service never gave"
            elif fields["status"] == "failed":
                assert "poison" in fields["error"], fields["error"]
                assert len(self.service.begun.get(job_id, ())) <= 3
        for worker in range(self.scale.workers):
            assert not await self.redis.exists(f"jobs:active:chaos-worker-chaos-{worker}")
        for left in ("jobs:pending", "jobs:leases", "jobs:delayed", "jobs:index:size"):
            assert not await self.redis.exists(left), left
        assert await self.redis.keys("jobs:class:*") == []
        ends["runs"] = sum(len(runs) for runs in self.service.begun.values())
        ends["late results refused"] = len(await self.redis.keys("job:*:late:*"))
        return ends


async def run(scale: Scale) -> tuple[Counter[str], Counter[str]]:
    """Break things so often; what was broken, and how jobs ended."""
    folder = Path(tempfile.mkdtemp(prefix="ml-", dir="/tmp"))
    valkey = ValkeyServer()
    valkey.start()
    redis: Redis = connect(valkey.url)
    service = LedgerService(scale.seed)
    rng = random.Random(scale.seed)  # noqa: S311 - chaos that can be repeated
    chaos = Chaos(scale, folder, valkey, service, rng, redis)
    server = await service.serve(folder / "service.sock")
    try:
        for index in range(scale.workers):
            await chaos.start(index)
        submitting = asyncio.create_task(chaos.submit())
        await chaos.break_things(submitting)
        await submitting
        await chaos.settle()
        return chaos.done, await chaos.check()
    finally:
        for process in chaos.workers.values():
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGCONT)
                process.kill()
            await process.wait()
        server.close()
        await redis.aclose()
        valkey.close()
        shutil.rmtree(folder)


@pytest.mark.timeout(600)
async def test_every_job_ends_exactly_once() -> None:
    broken, ends = await run(Scale(rounds=5))
    assert broken == {
        "kill_worker": 5, "freeze_worker": 5, "restart_redis": 5, "cut_sockets": 5,
        "forget_functions": 5, "fill_memory": 5, "become_a_replica": 5, "cancel_one": 10,
    }  # fmt: skip
    assert ends["completed"] > ends["failed"] + ends["cancelled"]
    assert ends["runs"] > ends["completed"], "nothing was ever run again"


def asked_for() -> Scale:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    for field in attrs.fields(Scale):
        parser.add_argument(f"--{field.name}", type=int, default=field.default)
    return Scale(**vars(parser.parse_args()))


if __name__ == "__main__":
    for counted in asyncio.run(run(asked_for())):
        sys.stdout.write(f"{dict(counted)}\n")
