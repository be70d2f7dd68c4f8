"""What a machine's log says of its processes and node packs."""

from __future__ import annotations

import io
import logging

import pytest
from rich.console import Console

from machine_lifecycle.cli.narration import Narrator
from machine_lifecycle.cli.progress import timing_table
from machine_lifecycle.lifecycle.events import (
    ConditionChanged,
    MachineReady,
    PacksLoaded,
    ProcessChanged,
)
from machine_lifecycle.model.packs import Pack, PackState
from machine_lifecycle.model.processes import ExitCause, ProcessState, ProcessStatus, Role
from machine_lifecycle.model.status import StateTiming

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


def test_what_imports_took_and_what_failed_is_said_when_the_machine_is_ready(
    caplog: pytest.LogCaptureFixture,
) -> None:
    packs = (
        Pack(name="slow", seconds=4.4),
        Pack(name="quick", seconds=0.0),
        Pack(name="slower", seconds=9.5),
        Pack(name="lacks", state=PackState.FAILED, seconds=0.1, reason="no x"),
    )
    narrator = Narrator(logging.getLogger("told"))
    with caplog.at_level(logging.INFO, logger="told"):
        narrator(PacksLoaded(instance="gpu0", packs=packs))
        narrator(ConditionChanged(condition="degraded", holds=True, reason="lacks (no x)"))
        narrator(MachineReady(machine_id="box", seconds=21.0))
        narrator(ConditionChanged(condition="degraded", holds=False))
        narrator(MachineReady(machine_id="box", seconds=1.0))
    first, _, *imports, ready = (record.getMessage() for record in caplog.records[:6])
    assert first == "gpu0: 3 node packs loaded in 14.0 s, not loaded: lacks"
    assert [line.split()[-1] for line in imports] == ["slower", "slow", "lacks"]
    assert ready == "machine box is ready in 21.0 s, degraded: lacks (no x)"
    assert caplog.records[-1].getMessage() == "machine box is ready in 1.0 s"


def test_the_boot_table_has_a_row_for_each_import_that_took_time() -> None:
    timing = StateTiming(state="services_starting", attempt=1, started=0.0, seconds=12.0)
    packs = {"gpu0": (Pack(name="slow[1]", seconds=4.4), Pack(name="quick", seconds=0.0))}
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(timing_table((timing,), 20.0, packs))
    rows = [" ".join(line.split()) for line in console.export_text().splitlines()]
    assert "import of slow[1], gpu0 4.4 s" in rows
    assert not any("quick" in row for row in rows)
