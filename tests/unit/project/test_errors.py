"""Every error has a code of its own."""

from __future__ import annotations

import re
from pathlib import Path
from typing import ClassVar

import attrs
import pytest

from machine_lifecycle.cli.explain import all_errors
from machine_lifecycle.errors import LifecycleError, registered_errors
from machine_lifecycle.system.errors import MachineNotRunning

TESTS = Path(__file__).resolve().parents[2]


def subclasses(kind: type[LifecycleError]) -> set[type[LifecycleError]]:
    direct = set(kind.__subclasses__())
    return direct.union(*(subclasses(each) for each in direct))


def test_no_two_errors_share_a_code() -> None:
    all_errors()
    ours = {
        kind
        for kind in subclasses(LifecycleError)
        if kind.__module__.startswith("machine_lifecycle.") and "code" in vars(kind)
    }
    codes = [kind.code for kind in ours]
    assert [code for code in set(codes) if codes.count(code) > 1] == []


def test_a_code_can_not_be_taken_twice() -> None:
    with pytest.raises(TypeError, match=r"has the code of .*MachineNotRunning"):

        @attrs.define(kw_only=True, slots=False, eq=False)
        class Impostor(LifecycleError):
            """Something else."""

            code: ClassVar[str] = "machine-not-running"

    assert registered_errors()["machine-not-running"] is MachineNotRunning


def test_a_module_may_be_loaded_anew() -> None:
    def load() -> type[LifecycleError]:
        @attrs.define(kw_only=True, slots=False, eq=False)
        class Reloaded(LifecycleError):
            """A class whose module is loaded twice."""

            code: ClassVar[str] = "reloaded-in-a-test"

        return Reloaded

    first, second = load(), load()
    assert first is not second
    assert registered_errors()["reloaded-in-a-test"] is second


ROOMS = ("conformance", "e2e", "integration", "real")
ELSEWHERE = {
    "configuration": "a family; its members are caused",
    "gpu-broken": "caused in e2e/test_gpu_faults.py, which knows it by its words",
    "gpu-fault": "caused in e2e/test_gpu_faults.py, which knows it by its words",
    "pack-blocked": "caused in integration/test_installers_origins.py, which knows it by its words",
    "processes-left": "needs a process that hangs in the kernel",
    "trigger-not-allowed": "every state answers its facts; see unit/states/test_table.py",
}


def test_every_code_is_caused_by_a_test_of_more_than_values() -> None:
    texts = [
        path.read_text(encoding="utf-8") for room in ROOMS for path in (TESTS / room).rglob("*.py")
    ]
    text = "\n".join(texts)
    never = {
        code
        for code, kind in all_errors().items()
        if code not in text and not re.search(rf"\b{kind.__name__}\b", text)
    }
    assert never <= set(ELSEWHERE), "cause it as its user would: see tests/e2e/test_every_code.py"
