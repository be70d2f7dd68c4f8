"""What jobs make goes to the site's own store, and comes back from there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

from tests.support.outside import Outside

GRAPH = {
    "1": {
        "class_type": "EmptyImage",
        "inputs": {"width": 32, "height": 16, "batch_size": 2, "color": 7},
    },
    "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "out"}},
}


def graph_file(machine: Outside) -> str:
    path = machine.folder / "graph.json"
    path.write_text(json.dumps(GRAPH), encoding="utf-8")
    return str(path)


def test_pictures_are_in_the_store_and_not_in_redis(
    outside: Callable[..., Outside], tmp_path: Path
) -> None:
    store, out = tmp_path / "store", tmp_path / "out"
    machine = outside(WORKER_OUTPUT_STORE=str(store)).start()
    machine.until("machine_ready")
    done = machine.call("submit", graph_file(machine), "--watch", "--json", "--out", str(out))
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    kept = sorted((store / told["id"]).iterdir())
    files = told["result"]["output_files"]
    assert [file["path"] for file in files] == [path.as_uri() for path in kept]
    assert [file["metadata"]["key"] for file in files] == ["", ""]
    for path, file, saved in zip(kept, files, told["saved"], strict=True):
        data = path.read_bytes()
        assert Path(saved).read_bytes() == data
        assert file["metadata"]["sha256"] == hashlib.sha256(data).hexdigest()
        assert file["size_bytes"] == len(data)


def test_a_job_whose_pictures_can_not_be_kept_fails_with_that_cause(
    outside: Callable[..., Outside], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    machine = outside(
        WORKER_OUTPUT_STORE=str(tmp_path / "file"), WORKER_RETRY_BACKOFF_MS="1"
    ).start()
    machine.until("machine_ready")
    job = machine.call("submit", graph_file(machine)).stdout.strip()
    machine.until("job_finished", job_id=job, outcome="failed")
    told = json.loads(machine.call("jobs", "show", job, "--json").stdout)
    assert told["error_details"]["code"] == "output-not-stored"
    assert str(tmp_path / "file") in told["error"]


def test_a_store_that_can_not_be_is_told_before_anything_runs(
    outside: Callable[..., Outside],
) -> None:
    refused = outside(WORKER_OUTPUT_STORE="nowhere://bucket").call("plan")
    assert refused.returncode == 2
    assert "[output-store-unusable]" in refused.stderr
