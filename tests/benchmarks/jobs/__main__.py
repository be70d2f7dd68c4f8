"""Jobs per second, start latency, idle cost and failures of the queue, beside peers in one run.

Run: ``python -m tests.benchmarks.jobs [--jobs N] [--rounds N] [--quick] [--peers PYTHON]
[--bullmq FOLDER]``.

``PYTHON`` is an interpreter that has taskiq-redis, arq and rq; ``FOLDER`` the ``node_modules`` in
which ``npm install bullmq ioredis`` put them. Without them ours alone is measured. Each tool runs
alone with a Valkey over TCP, a worker process and a submitting one; its defaults are kept. Jobs do
nothing but tell when they began. Compare the ratios: the figures depend on the machine and on what
else runs. The tools take turns, as often as ``--rounds`` says: what slows a host down for a minute
slows down all of them. Medians are told, with the least and the most in brackets. ``--quick``
leaves out what becomes of jobs when something fails, which takes minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
from collections.abc import Awaitable, Callable

from tests.benchmarks.jobs import failures, rates
from tests.benchmarks.jobs.claims import measure
from tests.benchmarks.jobs.tools import Tool, server, tools

Table = dict[str, dict[str, list[float]]]
"""Name of a row, name of a tool, what was measured."""
MORE_IS_BETTER = "jobs/s"


async def speeds(chosen: list[Tool], jobs: int, concurrency: int, rounds: int) -> Table:
    """What can be measured of each tool in seconds."""
    found: dict[str, dict[str, list[float]]] = {}

    def note(row: str, tool: Tool, value: float) -> None:
        found.setdefault(row, {}).setdefault(tool.name, []).append(value)
        print(f"{tool.name}: {row}: {value:,.2f}", flush=True)

    async with server() as valkey:
        where = valkey.url, valkey.redis
        for number, flight in ((jobs, concurrency), (jobs // 2, 1)) * rounds:
            for tool in chosen:
                load = await rates.at_full_load(tool, *where, number, flight)
                note(f"jobs/s, {flight} in flight", tool, load["jobs/s"])
                note(f"CPU of the worker, µs/job, {flight} in flight", tool, load["µs"])
        for tool in chosen * rounds:
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
            note(row, chosen[0], behind.in_a_row)
            note(f"{row}, after a pause", chosen[0], behind.median)
            if behind.size:
                found[row]["a look at each"] = [behind.scan]
    return found


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
        table[row][tool.name] = [await rows[row](tool)]
        print(f"{tool.name}: {row}: {table[row][tool.name][0]:,.2f}", flush=True)

    for row in rows:  # one kind after the other, or they would be in each other's way
        await asyncio.gather(*(one(row, tool) for tool in waited))
    back, again = await asyncio.to_thread(failures.worker_killed)
    table["job of a killed worker is back in the queue, s"] = {"ours": [back]}
    table["… and runs again, s"] = {"ours": [again]}
    table["cancelling reaches the service, ms"] = {"ours": [await failures.cancelled(chosen[0])]}
    return table


def shown(table: Table) -> str:
    """In Markdown: medians, with the least and the most; and how many times as good ours is."""
    names = list(dict.fromkeys(name for row in table.values() for name in row))
    lines = [f"| | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for row, found in table.items():
        cells = []
        ours = statistics.median(found.get("ours") or [0])
        for name in names:
            values = found.get(name)
            if not values:
                cells.append("")
                continue
            middle = statistics.median(values)
            words = _figure(middle)
            if len(values) > 1:
                words += f" ({_figure(min(values))} to {_figure(max(values))})"
            if name != "ours" and middle and ours:
                words += (
                    f", {ours / middle if row.startswith(MORE_IS_BETTER) else middle / ours:.2f} x"
                )
            cells.append(words)
        lines.append(f"| {row} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:,.2f}"


async def main(
    jobs: int, concurrency: int, rounds: int, chosen: list[Tool], *, quick: bool
) -> None:
    """Measure and print."""
    table = await speeds(chosen, jobs, concurrency, rounds)
    if not quick:
        table |= await mishaps(chosen)
    print(f"\nMedians (least to most), and how many times as good ours is.\n\n{shown(table)}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=5000)
    parser.add_argument("--concurrency", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="without failures")
    parser.add_argument("--peers", default="", help="a Python that has the peers")
    parser.add_argument("--bullmq", default="", help="the node_modules where bullmq is")
    asked = parser.parse_args()
    asyncio.run(
        main(
            asked.jobs, asked.concurrency, asked.rounds, tools(asked.peers, asked.bullmq),
            quick=asked.quick,
        )
    )  # fmt: skip
