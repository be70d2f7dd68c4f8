"""What a machine's log says of its processes."""

from __future__ import annotations

import logging

import pytest

from machine_lifecycle.cli.narration import Narrator
from machine_lifecycle.lifecycle.events import ProcessChanged
from machine_lifecycle.model.processes import ExitCause, ProcessState, ProcessStatus, Role

KILLED = ExitCause(signal="SIGKILL", reason="killed by SIGKILL", at=0.0)


@pytest.mark.parametrize(
    ("state", "restarts", "level", "said"),
    [
        (ProcessState.BACKOFF, 0, logging.WARNING, "gpu0 ended (killed by SIGKILL) and is"),
        (ProcessState.FATAL, 5, logging.ERROR, "(killed by SIGKILL) and is given"),
        (ProcessState.RUNNING, 1, logging.INFO, "gpu0 is ready again, restart 1"),
        (ProcessState.RUNNING, 0, logging.DEBUG, "process gpu0: running"),
    ],
)
def test_the_end_of_a_process_is_told_to_everybody(
    state: ProcessState,
    restarts: int,
    level: int,
    said: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    process = ProcessStatus(
        name="gpu0",
        role=Role.SERVICE,
        state=state,
        ready=state is ProcessState.RUNNING,
        since=0.0,
        restarts=restarts,
        last_exit=KILLED,
    )
    with caplog.at_level(logging.DEBUG, logger="told"):
        Narrator(logging.getLogger("told"))(ProcessChanged(attempt=1, process=process))
    (record,) = caplog.records
    assert record.levelno == level
    assert said in record.getMessage()
