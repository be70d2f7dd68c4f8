"""What keeping a log within bounds costs the process that writes it.

Run it as a program: a child writes into its file with nobody looking, and then with a keeper that
puts parts aside meanwhile. Compare the two in one run: the times depend on the machine.
"""

from __future__ import annotations

import asyncio
import os
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path

from machine_lifecycle.supervisor.keeping import LogKeeper
from machine_lifecycle.supervisor.rotation import LogRules, archives

ROUNDS = 3
CHILD = """
import os, sys
block, count = b"x" * (int(sys.argv[1]) - 1) + b"\\n", int(sys.argv[2])
for _ in range(count):
    os.write(1, block)
"""
KINDS = {"1 GB in 4 KiB writes": (4096, 250_000), "100 MB in 100-byte lines": (100, 1_000_000)}


async def once(size: int, count: int, rules: LogRules | None) -> tuple[float, float, int]:
    """Megabytes a second, seconds of our own processor time, bytes on disk at the end."""
    with tempfile.TemporaryDirectory(prefix="ml-", ignore_cleanup_errors=True) as folder:
        log = Path(folder) / "p.log"
        keeper = LogKeeper(rules, print) if rules else None
        if keeper:
            keeper.begin(log)
        handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        used = resource.getrusage(resource.RUSAGE_SELF)
        began = time.perf_counter()
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", CHILD, str(size), str(count), stdout=handle
        )
        await child.wait()
        seconds = time.perf_counter() - began
        now = resource.getrusage(resource.RUSAGE_SELF)
        os.close(handle)
        if keeper:
            keeper.close()
        held = sum(part.stat().st_blocks * 512 for part in (log, *archives(log)))
        ours = now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime
        return size * count / 1e6 / seconds, ours, held


async def main() -> None:
    """Print a line for each kind of writing and of keeping."""
    kept = {
        "nobody looks": None,
        "64 MiB x 3": LogRules(),
        "8 MiB x 3": LogRules(max_bytes=8 << 20),
        "8 MiB x 3, gzip": LogRules(max_bytes=8 << 20, compress=True),
    }
    for kind, (size, count) in KINDS.items():
        base, all_runs = 0.0, {how: list[tuple[float, float, int]]() for how in kept}
        for _ in range(ROUNDS):  # taking turns: whatever else the machine does strikes all alike
            for how, rules in kept.items():
                all_runs[how].append(await once(size, count, rules))
        for how, runs in all_runs.items():
            speed, ours, held = (statistics.median(run[i] for run in runs) for i in range(3))
            base = base or speed
            print(
                f"{kind}: {how}: {speed:.0f} MB/s ({speed / base:.2f}), "
                f"{ours:.2f} s of ours, {held / 1e6:.0f} MB on disk"
            )


if __name__ == "__main__":
    asyncio.run(main())
