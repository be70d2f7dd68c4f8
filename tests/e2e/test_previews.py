"""Pictures of what is about to be made, for who asks."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from redis import Redis

from tests.support.outside import Outside
from tests.support.redis_server import ValkeyServer

STEPS = 10


def graph_file(machine: Outside) -> str:
    graph: dict[str, Any] = {
        "1": {
            "class_type": "EmptyImage",
            "inputs": {"width": 32, "height": 16, "batch_size": 1, "color": 0x336699},
        },
        "2": {
            "class_type": "SimulateSteps",
            "inputs": {"image": ["1", 0], "steps": STEPS, "seconds": 0.3, "nonce": 1},
        },
        "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "p"}},
    }
    path = machine.folder / "graph.json"
    path.write_text(json.dumps(graph), encoding="utf-8")
    return str(path)


def test_previews_come_to_who_asks_and_to_nobody_else(
    outside: Callable[..., Outside], hub: ValkeyServer, tmp_path: Path
) -> None:
    machine = outside(HUB_REDIS_URL=hub.url, REDIS="hub").start()
    machine.until("machine_ready")
    with Redis.from_url(hub.url, decode_responses=True) as redis:
        redis.config_resetstat()
        unasked = machine.call("submit", graph_file(machine), "--watch", "--json")
        assert json.loads(unasked.stdout)["status"] == "completed"
        calls: Any = redis.info("commandstats")
        assert calls["cmdstat_pubsub|numsub"]["calls"] >= 2
        published = calls.get("cmdstat_publish", {}).get("calls", 0)
        folder = tmp_path / "previews"
        graph = json.loads((machine.folder / "graph.json").read_text())
        graph["2"]["inputs"]["nonce"] = 2  # else its node is not run again
        (machine.folder / "graph.json").write_text(json.dumps(graph))
        asked = machine.call(
            "submit", str(machine.folder / "graph.json"), "--previews", str(folder), "--json"
        )
        told = json.loads(asked.stdout)
        assert told["status"] == "completed", asked.stderr
        after: Any = redis.info("commandstats")
    pictures = sorted(folder.iterdir())
    assert 2 <= len(pictures) <= STEPS
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in pictures)
    assert all(path.name.startswith(told["id"]) for path in pictures)
    assert after["cmdstat_publish"]["calls"] - published >= len(pictures)
