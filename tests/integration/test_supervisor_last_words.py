"""What a process says itself of its end is believed, and passed on as it was said."""

from __future__ import annotations

import json
import sys

import pytest

from machine_lifecycle.errors import ExitCode, LifecycleError, RemoteError
from machine_lifecycle.supervisor import ProcessFailed
from tests.integration.test_supervisor_core import House, house, paths, spec

__all__ = ["house", "paths"]

_SAYS = """
import os, pathlib, sys
said = pathlib.Path(os.environ["MACHINE_LAST_WORDS"])
said.parent.mkdir(exist_ok=True)
once = pathlib.Path(sys.argv[2]) if len(sys.argv) > 2 else None
if once is None or not once.exists():
    said.write_text(sys.argv[1])
    if once: once.touch()
sys.exit("it is over")
"""


def says(text: str, *arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-c", _SAYS, text, *arguments)


def error(**more: object) -> str:
    wire = {"code": "licence-expired", "summary": "the licence ended on Monday"}
    return json.dumps(wire | more)


async def outcome(house: House) -> LifecycleError:
    with pytest.raises(LifecycleError) as failed:
        await house.ready("p")
    assert [name for name, _ in house.fatal] == ["p"]
    return failed.value


async def test_its_own_error_is_why_it_failed(house: House) -> None:
    remedy = {"text": "Renew it", "command": "renew --now"}
    text = error(remedies=[remedy], context=["seat 7"], recoverable=True)
    await house.supervisor.launch([spec("p", argv=says(text))])
    told = await outcome(house)
    assert (told.code, told.where, told.recoverable) == ("licence-expired", "p", True)
    assert told.summary == "the licence ended on Monday"
    assert told.context == ("seat 7",)
    assert [one.command for one in told.remedies] == ["renew --now"]
    assert house.status("p").restarts == 1, "it was tried again"


async def test_one_that_says_that_nothing_will_help_is_not_started_again(house: House) -> None:
    await house.supervisor.launch([spec("p", argv=says(error(recoverable=False)))])
    told = await outcome(house)
    assert (told.code, told.recoverable) == ("licence-expired", False)
    assert house.status("p").restarts == 0


async def test_it_tells_its_exit_status_too(house: House) -> None:
    """The class that has it, of a worker or of a plug-in, need not be loaded here."""
    text = error(recoverable=False, exit_code=ExitCode.CONFIGURATION)
    await house.supervisor.launch([spec("p", argv=says(text))])
    assert (await outcome(house)).exit_code == ExitCode.CONFIGURATION


@pytest.mark.parametrize(
    "text", ["", "gone", "[1]", "[" * 60_000, '{"code": 7, "summary": "x"}', '{"code": "x"}']
)
async def test_what_is_no_error_is_not_taken_for_one(house: House, text: str) -> None:
    await house.supervisor.launch([spec("p", argv=says(text))])
    told = await outcome(house)
    assert isinstance(told, ProcessFailed)
    assert told.context == ("it is over",)


async def test_parts_of_another_kind_are_left_out(house: House) -> None:
    await house.supervisor.launch([spec("p", argv=says(error(remedies=["do it"], context=7)))])
    told = await outcome(house)
    assert isinstance(told, RemoteError)
    assert (told.remedies, told.context) == ((), ())


async def test_words_of_an_earlier_start_explain_no_later_end(house: House) -> None:
    mark = str(house.paths.workspace / "said")
    await house.supervisor.launch([spec("p", argv=says(error(), mark))])
    assert isinstance(await outcome(house), ProcessFailed)
