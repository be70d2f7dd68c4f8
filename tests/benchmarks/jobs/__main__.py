"""Jobs per second, start latency, idle cost and failures of the queue, beside peers in one run.

Run: ``python -m tests.benchmarks.jobs [--jobs N] [--quick] [--peers PYTHON] [--bullmq FOLDER]``.

``PYTHON`` is an interpreter that has taskiq-redis, arq and rq; ``FOLDER`` the ``node_modules`` in
which ``npm install bullmq ioredis`` put them. Without them ours alone is measured. Each tool runs
alone with a Valkey over TCP, a worker process and a submitting one; its defaults are kept. Jobs do
nothing but tell when they began. Compare the ratios: the figures depend on the machine and on what
else runs. ``--quick`` leaves out what becomes of jobs when something fails, which takes minutes.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from tests.benchmarks.jobs import failures, rates
from tests.benchmarks.jobs.claims import measure
from tests.benchmarks.jobs.tools import Tool, server, tools

Table = dict[str, dict[str, float]]
"""Name of a row, name of a tool, figure."""
MORE_IS_BETTER = "jobs/s"


async def speeds(chosen: list[Tool], jobs: int, concurrency: int) -> Table:
    """What can be measured of each tool in seconds."""
    table: Table = {}

    def note(row: str, tool: Tool, value: float) -> None:
        before = table.setdefault(row, {}).get(tool.name, value)
        table[row][tool.name] = (before + value) / 2
        print(f"{tool.name}: {row}: {value:,.2f}", flush=True)

    async with server() as valkey:
        where = valkey.url, valkey.redis
        # Ours before and after the others, so that a machine that gets busy meanwhile shows.
        for tool in [*chosen, chosen[0]]:
            for number, flight in ((jobs // 2, 1), (jobs, concurrency)):
                found = await rates.at_full_load(tool, *where, number, flight)
                note(f"jobs/s, {flight} in flight", tool, found["jobs/s"])
                note(f"CPU of the worker, µs/job, {flight} in flight", tool, found["µs"])
            idle = await rates.when_idle(tool, *where)
            note("idle start, median ms", tool, idle["median"])
            note("idle start, p90 ms", tool, idle["p90"])
            note("from one job to the next, ms", tool, await rates.between_jobs(tool, *where))
        note(
            "calls a second of 8 idle workers", chosen[0], await rates.idle_calls(chosen[0], *where)
        )
        await valkey.redis.flushall()
        async for behind in measure(valkey.redis, (0, 10_000)):
            row = f"claim behind {behind.size:,} foreign jobs, µs of the server"
            note(row, chosen[0], behind.median)
            if behind.size:
                table[row]["a look at each"] = behind.scan
    return table


async def mishaps(chosen: list[Tool]) -> Table:
    """What takes long because it waits; all tools at once."""
    waited = [tool for tool in chosen if tool.name in failures.ENDED]
    rows: dict[str, Callable[[Tool], Awaitable[float]]] = {
        "job of a lost machine runs again, s": failures.machine_lost,
        "late results taken, of 1": failures.late_results,
        "runs per job over a restart of Redis": failures.redis_restarts,
    }
    table: Table = {row: {} for row in rows}

    async def one(row: str, tool: Tool) -> None:
        table[row][tool.name] = await rows[row](tool)
        print(f"{tool.name}: {row}: {table[row][tool.name]:,.2f}", flush=True)

    for row in rows:  # one kind after the other, or they would be in each other's way
        await asyncio.gather(*(one(row, tool) for tool in waited))
    back, again = await asyncio.to_thread(failures.worker_killed)
    table["job of a killed worker is back in the queue, s"] = {"ours": back}
    table["… and runs again, s"] = {"ours": again}
    table["cancelling reaches the service, ms"] = {"ours": await failures.cancelled(chosen[0])}
    return table


def shown(table: Table) -> str:
    """In Markdown; in brackets how many times as good as that ours is."""
    names = list(dict.fromkeys(name for row in table.values() for name in row))
    lines = [f"| | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for row, found in table.items():
        cells: list[Any] = []
        for name in names:
            value = found.get(name)
            if value is None:
                cells.append("")
                continue
            words = f"{value:,.0f}" if value >= 100 else f"{value:,.2f}"
            if name != "ours" and value and found.get("ours"):
                better = found["ours"] / value
                words += f" ({better if row.startswith(MORE_IS_BETTER) else 1 / better:,.2f})"
            cells.append(words)
        lines.append(f"| {row} | {' | '.join(cells)} |")
    return "\n".join(lines)


async def main(jobs: int, concurrency: int, chosen: list[Tool], *, quick: bool) -> None:
    """Measure and print."""
    table = await speeds(chosen, jobs, concurrency)
    if not quick:
        table |= await mishaps(chosen)
    print(f"\nIn brackets: how many times as good ours is.\n\n{shown(table)}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=5000)
    parser.add_argument("--concurrency", type=int, default=10)
    parser.add_argument("--quick", action="store_true", help="without failures")
    parser.add_argument("--peers", default="", help="a Python that has the peers")
    parser.add_argument("--bullmq", default="", help="the node_modules where bullmq is")
    asked = parser.parse_args()
    asyncio.run(
        main(asked.jobs, asked.concurrency, tools(asked.peers, asked.bullmq), quick=asked.quick)
    )
