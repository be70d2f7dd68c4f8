"""The example of a service with a machine inside does what its page says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support.patience import PATIENCE

EXAMPLE = Path(__file__).parents[2] / "examples" / "embed.py"


def test_the_example_boots_does_a_job_and_leaves_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(EXAMPLE)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "starting -> installing"
    assert "a job is completed" in lines
    assert "job: completed 100%" in lines
    assert any(line.startswith("embed_00001_.png: ") for line in lines)
    assert lines[-1] == "stopping -> stopped"
