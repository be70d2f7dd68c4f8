"""A primary, its replica and a Sentinel, apart from any machine."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

from tests.support.patience import PATIENCE
from tests.support.ports import free_port

__all__ = ["Watched"]


class Watched:
    """A primary, a replica of it, and one Sentinel."""

    def __init__(self, folder: Path, program: str) -> None:
        self.primary = free_port(count=3)
        self.replica, self.sentinel = self.primary + 1, self.primary + 2
        self._folder, self._program = folder, program
        self._started: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        plain = ("--save", "", "--repl-diskless-sync-delay", "0", "--port")
        self._start(*plain, str(self.primary))
        self._start(*plain, str(self.replica), "--replicaof", f"127.0.0.1 {self.primary}")
        self._until(self.primary, lambda r: "online" in str(r.info("replication")))
        watch = self._folder / "sentinel.conf"
        watch.write_text(
            f"port {self.sentinel}\n"
            f"sentinel monitor main 127.0.0.1 {self.primary} 1\n"
            "sentinel down-after-milliseconds main 1000\n"
            "sentinel failover-timeout main 3000\n",
            encoding="utf-8",
        )
        self._start(str(watch), "--sentinel")
        self._until(self.sentinel, lambda r: len(r.sentinel_slaves("main")) == 1)

    def _start(self, *words: str) -> None:
        folder = self._folder / str(len(self._started))  # of its own, for the replica's copy
        folder.mkdir()
        self._started.append(subprocess.Popen([self._program, *words], cwd=folder))

    @staticmethod
    def _until(port: int, wanted: Callable[[Any], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        with Redis(port=port, decode_responses=True) as redis:
            while time.monotonic() < deadline:
                with contextlib.suppress(RedisError):
                    if wanted(redis):
                        return
                time.sleep(0.02)
        raise AssertionError(f"{port} did not come so far")

    @contextlib.contextmanager
    def switching(self) -> Iterator[None]:
        """Come back when the Sentinel has made the replica the primary."""
        with Redis(port=self.sentinel, decode_responses=True) as redis, redis.pubsub() as heard:
            heard.subscribe("+switch-master")
            heard.get_message(timeout=PATIENCE)
            yield
            if heard.get_message(timeout=PATIENCE, ignore_subscribe_messages=True) is None:
                raise AssertionError("nothing became the primary")

    def leave_behind(self) -> None:
        """Keep from the replica what is written from here on."""
        self._started[1].send_signal(signal.SIGSTOP)
        with Redis(port=self.primary) as primary:
            primary.execute_command("CLIENT", "KILL", "TYPE", "replica")

    def kill_primary(self) -> None:
        self._started[0].kill()
        self._started[0].wait(PATIENCE)
        self._started[1].send_signal(signal.SIGCONT)

    def close(self) -> None:
        for each in self._started:
            each.kill()
            each.wait(PATIENCE)
