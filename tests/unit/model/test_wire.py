"""The JSON form of values."""

from __future__ import annotations

import json
from enum import Enum, StrEnum
from pathlib import Path
from typing import Any

import attrs
import pytest

from machine_lifecycle.model.hardware import Gpu, GpuSource, Hardware
from machine_lifecycle.model.status import StatusReport
from machine_lifecycle.model.wire import to_json_value


class _Number(Enum):
    ONE = 1


class _Word(StrEnum):
    A = "a"


@attrs.frozen
class _Value:
    path: Path
    words: tuple[str, ...] = ()
    _hidden: int = 3


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (True, True),
        (1.5, 1.5),
        (_Number.ONE, 1),
        (_Word.A, "a"),
        (Path("/a/b"), "/a/b"),
        ((1, [2, (3,)]), [1, [2, [3]]]),
        (frozenset({"b", "a"}), ["a", "b"]),
        ({_Number.ONE: {"x": Path("y")}}, {"1": {"x": "y"}}),
        (_Value(Path("p"), ("q",)), {"path": "p", "words": ["q"]}),
    ],
)
def test_values_become_what_json_has(value: Any, expected: Any) -> None:
    assert to_json_value(value) == expected


@pytest.mark.parametrize("value", [b"x", bytearray(b"x"), object(), {"a": b"x"}, [b"x"]])
def test_a_value_without_a_form_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match="no form in JSON"):
        to_json_value(value)


def test_a_status_report_survives_json() -> None:
    """Every type that a report holds has a form."""
    gpu = Gpu(index=0, name="G", memory_mib=1, uuid="u", visible="0")
    report = StatusReport(
        machine_id="m",
        version="1",
        state="ready",
        phase="ready",
        since=1.0,
        uptime=2.0,
        attempt=1,
        pid=3,
        hardware=Hardware(gpus=(gpu,), source=GpuSource.NVML),
    )
    told = json.loads(json.dumps(to_json_value(report)))
    assert told["hardware"]["source"] == "nvml"
    assert told["hardware"]["gpus"][0]["visible"] == "0"
