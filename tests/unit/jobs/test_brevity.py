"""What is left of what services say at length."""

from __future__ import annotations

import json

from machine_lifecycle.errors import Problems, RemoteError
from machine_lifecycle.jobs.brevity import brief, brief_error
from machine_lifecycle.jobs.errors import JobCrashed


def crashed(message: str, *context: str) -> JobCrashed:
    return JobCrashed(job_id="j1", kind="ValueError", message=message, context=context)


def test_a_text_that_fits_is_left_as_it_is() -> None:
    assert brief("x" * 8192) == "x" * 8192
    assert brief("") == ""


def test_a_long_text_keeps_its_beginning_and_its_end() -> None:
    short = brief("a" * 5000 + "b" * 5000 + "c" * 5000)
    assert short.startswith("a" * 4096)
    assert short.endswith("c" * 4096)
    assert " … (6808 characters are left out) … " in short


def test_an_error_that_fits_is_left_as_it_is() -> None:
    error = crashed("a bug", *("a line",) * 100)
    assert brief_error(error, "j1") is error


def test_a_long_error_is_still_that_error() -> None:
    error = crashed("x" * 100_000, *("the cause", "y" * 100_000, "the last line"))
    told = brief_error(error, "j1")
    assert isinstance(told, RemoteError)
    assert (told.code, told.recoverable) == (error.code, error.recoverable)
    assert told.summary.startswith("job j1: ValueError: xxx")
    assert (told.context[0], told.context[-1]) == ("the cause", "the last line")
    assert told.remedies == error.remedies
    assert brief_error(told, "j1") is told


def test_whatever_is_in_it_the_server_takes_it() -> None:
    wide = "\N{GRINNING FACE}" * 100_000  # 12 bytes of JSON each
    group = Problems(
        subject=wide, where=wide, context=(wide,) * 9, errors=(crashed(wide, wide),) * 5
    )
    told = brief_error(group, "j1")
    assert told.code == "problems"
    assert len(json.dumps(told.to_wire())) < 400_000
