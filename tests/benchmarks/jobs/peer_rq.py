"""rq with a worker that does not fork for each job, which is its fastest."""

import os
import random
import socket
import sys
import time

from redis import Redis
from rq import Queue, SimpleWorker

redis = Redis.from_url(os.environ["BENCH_URL"])  # noqa: TID251 - a program of its own
out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
to = ("127.0.0.1", int(os.environ["BENCH_PORT"]))  # noqa: TID251 - likewise


def clock(t0: int, takes: float) -> None:
    out.sendto(f"{t0} {time.monotonic_ns()}".encode(), to)
    if takes:
        time.sleep(takes)


if __name__ == "__main__":
    queue = Queue("bench", connection=redis)
    if sys.argv[1] == "work":
        SimpleWorker([queue], connection=redis).work(logging_level="ERROR")
    for _ in range(int(sys.argv[2])):
        gap = float(sys.argv[3])
        if gap:
            time.sleep(random.uniform(gap / 2, gap * 2))  # noqa: S311 - spreads
        queue.enqueue("peer_rq.clock", time.monotonic_ns(), float(sys.argv[4]))
