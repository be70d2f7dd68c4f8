"""Our supervisor beside the others, in one run, judged from outside.

Run ``python -m tests.benchmarks.supervisor`` (all), or name some of: start, crash, storm, stop,
slow, idle, logs, killed. Peers are those on PATH, and in folders given by ``--path``: a supervisor
that is not found is named as left out. Prints the median, the range, and the ratio to ours. Compare
ratios: the times depend on the machine. The measurements alternate between the peers, so that a
disturbance meets all of them.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.benchmarks.supervisor.peers import ALL, Peer, present, until
from tests.benchmarks.supervisor.scene import Scene, compile_child
from tests.support.outside import subreaper

MANY = 64
FLOOD = 200
WINDOW = 5.0
Measure = Callable[[Peer, str], dict[str, float]]


def start(peer: Peer, child: str) -> dict[str, float]:
    """From exec of the supervisor until the last of its children runs."""
    found = {}
    for count in (1, 16, MANY, 256):
        with Scene(peer, child, count) as scene:
            last = max(at for _, _, at in scene.starts()[:count])
            found[f"start of {count}, ms"] = (last - scene.began) / 1e6
            said = scene.task.folder / "said.json"
            if peer.name == "ours" and until(said.exists, 5):
                began = json.loads(said.read_text())["began"]
                found[f"start of {count} from the call, ms"] = (last - began) / 1e6
    return found


def crash(peer: Peer, child: str) -> dict[str, float]:
    """A child is killed: until its replacement runs. The worst of eight, and their median."""
    with Scene(peer, child, 16) as scene:
        time.sleep(1.5)  # the others count an earlier end as a failed start
        took = [scene.kill([pid]) for pid in scene.children()[:8]]
    return {"crash to replacement, ms": statistics.median(took), "the worst of 8": max(took)}


def storm(peer: Peer, child: str) -> dict[str, float]:
    """All are killed at once: until the last replacement runs."""
    with Scene(peer, child, MANY) as scene:
        time.sleep(1.5)  # see crash
        return {f"{MANY} crash at once, ms": scene.kill(scene.children())}


def stop(peer: Peer, child: str) -> dict[str, float]:
    """From the order to stop until the last child has ended."""
    with Scene(peer, child, MANY) as scene:
        time.sleep(1.5)  # see crash
        return {f"stop of {MANY}, ms": scene.stop()}


def slow(peer: Peer, child: str) -> dict[str, float]:
    """The same with children that need 300 ms to end."""
    with Scene(peer, child, MANY, "slow") as scene:
        time.sleep(1.5)  # see crash
        return {f"stop of {MANY} slow, ms": scene.stop()}


def idle(peer: Peer, child: str) -> dict[str, float]:
    """What the supervisor needs while nothing happens."""
    with Scene(peer, child, MANY) as scene:
        time.sleep(3)  # until what follows a start is over
        before, began = scene.cost(), time.monotonic()
        time.sleep(WINDOW)
        after, seconds = scene.cost(), time.monotonic() - began
        return {
            "idle: RSS, MiB": after.rss,
            "idle: PSS, MiB": after.pss,
            "idle: CPU, ms per s": (after.cpu - before.cpu) / seconds * 1000,
            "idle: wake-ups per s": (after.wakes - before.wakes) / seconds,
        }


def logs(peer: Peer, child: str) -> dict[str, float]:
    """A child writes as fast as it can."""
    with Scene(peer, child, 1, f"flood{FLOOD}") as scene:
        before = scene.cost().cpu
        until(lambda: bool(scene.events("F")), 60)
        (_, _, began), (_, _, ended) = scene.starts()[0], scene.events("F")[0]
        return {
            "log of a child, MiB/s": FLOOD / (ended - began) * 1e9,
            f"CPU of {FLOOD} MiB of log, ms": (scene.cost().cpu - before) * 1000,
        }


def killed(peer: Peer, child: str) -> dict[str, float]:
    """The supervisor is killed by SIGKILL and started anew, with 64 children."""
    with Scene(peer, child, MANY) as scene:
        time.sleep(1.0)  # see crash
        for one in scene.keepers():
            if Path(one.cmdline()[0]).name not in ("runsv", "s6-supervise"):  # made to live on
                one.kill()
        survivors = set(scene.children())
        said = scene.task.folder / "said.json"
        said.unlink(missing_ok=True)
        scene.start()
        time.sleep(3.0)  # whatever it starts twice runs by then
        running = scene.children()
        found = {
            "killed: jobs that live on": float(len(survivors & set(running))),
            "killed: children too many": float(len(running) - MANY),
        }
        if said.exists():
            data = json.loads(said.read_text())
            found["killed: adoption of 64, ms"] = (data["recovered"] - data["began"]) / 1e6
        return found


PARTS: dict[str, tuple[Measure, int]] = {
    "start": (start, 5),
    "crash": (crash, 3),
    "storm": (storm, 3),
    "stop": (stop, 3),
    "slow": (slow, 1),
    "idle": (idle, 1),
    "logs": (logs, 3),
    "killed": (killed, 1),
}


def show(rows: dict[str, dict[str, list[float]]]) -> None:
    """One line for each quantity and peer."""
    for what, by_peer in rows.items():
        ours = statistics.median(by_peer.get("ours", [0.0]))
        for peer, values in by_peer.items():
            middle = statistics.median(values)
            ratio = f"{middle / ours:8.1f} x ours" if ours and peer != "ours" else ""
            spread = f"({min(values):.1f}-{max(values):.1f})"
            sys.stdout.write(f"{what:34} {peer:12} {middle:9.1f} {spread:18} {ratio}\n")
        sys.stdout.flush()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.supervisor")
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--path", action="append", default=[], help="a folder with supervisors")
    parser.add_argument("--runs", type=int, default=0, help="instead of each part's own number")
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    path = os.pathsep.join([*options.path, os.environ["PATH"]])  # noqa: TID251 - a program
    os.environ["PATH"] = path  # noqa: TID251 - likewise
    peers = present()
    if absent := [peer.name for peer in ALL if peer not in peers]:
        sys.stdout.write(f"left out, not on PATH: {', '.join(absent)}\n")
    with tempfile.TemporaryDirectory(prefix="sv-") as folder, subreaper():
        child = compile_child(Path(folder))
        for name in options.parts or PARTS:
            measure, runs = PARTS[name]
            rows: dict[str, dict[str, list[float]]] = {}
            for _ in range(options.runs or runs):
                for peer in peers:
                    try:
                        found = measure(peer, child)
                    except TimeoutError as error:
                        sys.stdout.write(f"{name}: {error}\n")
                        continue
                    for what, value in found.items():
                        rows.setdefault(what, {}).setdefault(peer.name, []).append(value)
            show(rows)


if __name__ == "__main__":
    main()
