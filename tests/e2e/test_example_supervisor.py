"""The example of a supervisor of one's own does what its page says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.patience import PATIENCE

EXAMPLE = Path(__file__).parents[2] / "examples" / "keep_two_running.py"


@pytest.mark.skipif(sys.platform == "win32", reason="needs Unix signals")
def test_the_example_brings_its_server_back_and_stops() -> None:
    done = subprocess.run(
        [sys.executable, str(EXAMPLE), "--once"],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    lines = done.stdout.splitlines()
    assert lines[-1] == "all stopped"
    assert any(line.startswith("server backoff") and "SIGKILL" in line for line in lines)
    assert sum(line.startswith("client starting") for line in lines) == 1
    assert any(line.startswith("client stopped") for line in lines)
