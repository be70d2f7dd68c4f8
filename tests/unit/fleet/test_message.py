"""What a hub reads of a machine's health."""

from __future__ import annotations

import attrs
import pytest

from machine_lifecycle.fleet.message import status_message
from machine_lifecycle.model.status import Condition, StatusReport


@pytest.mark.parametrize(
    ("conditions", "kinds", "degraded"),
    [
        ((), [], ""),
        (
            (
                Condition(kind="draining", reason="asked for", since=1.0),
                Condition(kind="degraded", reason="1 node pack did not load", since=1.0),
            ),
            ["draining", "degraded"],
            "1 node pack did not load",
        ),
    ],
)
def test_a_degraded_machine_says_why(
    conditions: tuple[Condition, ...], kinds: list[str], degraded: str
) -> None:
    report = StatusReport(
        machine_id="box", version="1", state="ready", phase="ready", since=1.0, uptime=2.0,
        attempt=1, pid=3, conditions=conditions,
    )  # fmt: skip
    machine = status_message(report, None, "periodic", 5)["status"]["machine"]
    assert (machine["conditions"], machine["degraded"]) == (kinds, degraded)


def test_a_machine_whose_pages_are_not_up_names_no_page() -> None:
    report = StatusReport(
        machine_id="m", version="1",
        state="starting", phase="starting", since=0.0, uptime=1.0, attempt=1, pid=1,
    )  # fmt: skip
    assert status_message(report, None, "periodic", 5)["health_url"] == ""
    up = attrs.evolve(report, health_url="http://127.0.0.1:9090")
    told = status_message(up, None, "periodic", 5)["health_url"]
    assert told == "http://127.0.0.1:9090/health"
