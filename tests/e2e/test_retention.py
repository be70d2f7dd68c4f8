"""Old files of services go, and nothing else."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from tests.support.outside import Outside
from tests.support.patience import PATIENCE


def test_old_files_go_at_ready_and_new_ones_stay(outside: Callable[..., Outside]) -> None:
    machine = outside(MOCK_GPU_NUM="1", MACHINE_OUTPUT_KEEP_DAYS="1")
    data = machine.folder / "w" / "instances" / "simulation-gpu0"
    files = {}
    for name, age in (("output/old.png", 2), ("temp/sub/old.png", 2), ("output/new.png", 0)):
        files[name] = data / name
        files[name].parent.mkdir(parents=True, exist_ok=True)
        files[name].write_bytes(b"x")
        at = time.time() - age * 86400
        os.utime(files[name], (at, at))
    machine.start().until("machine_ready")
    deadline = time.monotonic() + PATIENCE
    while files["output/old.png"].exists() or (data / "temp" / "sub").exists():
        assert time.monotonic() < deadline, machine.said()
        time.sleep(0.02)  # sleep: files offer no event
    assert files["output/new.png"].exists()
    assert (data / "temp").is_dir()
