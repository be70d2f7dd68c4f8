"""How log lines look, and that secrets stay out of them."""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from machine_lifecycle.model.settings import LogFormat
from machine_lifecycle.system.logs import (
    configure_logging,
    forget_secrets,
    logger,
    redact,
    register_secret,
)


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    root = logging.getLogger("machine_lifecycle")
    before = (root.handlers[:], root.level, root.propagate)
    yield
    root.handlers[:], root.propagate = before[0], before[2]
    root.setLevel(before[1])
    forget_secrets()


def test_text_has_time_level_component_message_and_fields() -> None:
    out = io.StringIO()
    configure_logging("info", LogFormat.TEXT, out)
    logger("health").info("listens on %s", "a", extra={"port": 9090, "why": "two words"})
    logger("health").debug("not shown")
    shape = r'\d\d:\d\d:\d\d\.\d{3} \[info\] \[health\] listens on a port=9090 why="two words"\n'
    assert re.fullmatch(shape, out.getvalue())


@pytest.mark.parametrize(("colour", "coloured"), [(True, True), (False, False)])
def test_colour_is_for_terminals_that_want_it(*, colour: bool, coloured: bool) -> None:
    out = _Terminal()
    configure_logging("info", LogFormat.AUTO, out, colour=colour)
    logger("x").info("hello")
    assert ("\x1b[" in out.getvalue()) is coloured
    assert "[x]" in out.getvalue()


def test_json_elsewhere_with_a_trace() -> None:
    out = io.StringIO()
    configure_logging("warning", LogFormat.AUTO, out)
    try:
        int("no")
    except ValueError:
        logger("jobs").exception("failed", extra={"path": Path("/a"), "odd": {1, 2}, "raw": b"x"})
    line = json.loads(out.getvalue())
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line.pop("time"))
    assert "ValueError: invalid" in line.pop("trace")
    assert line == {
        "level": "error",
        "component": "jobs",
        "message": "failed",
        "path": "/a",
        "odd": [1, 2],
        "raw": "b'x'",
    }


@pytest.mark.parametrize("form", [LogFormat.TEXT, LogFormat.JSON])
@pytest.mark.parametrize("secret", ["canary-1234", 'quo"ted\\canary', "kanärie"])
def test_a_secret_is_taken_out_of_message_fields_and_trace(form: LogFormat, secret: str) -> None:
    out = io.StringIO()
    configure_logging("debug", form, out)
    register_secret(secret)
    try:
        int(secret)
    except ValueError:
        logger("x").exception("url %s", secret, extra={"url": f"a {secret} b", "deep": [secret]})
    assert secret not in out.getvalue()
    assert "ValueError: invalid" in out.getvalue()
    if form is LogFormat.JSON:
        assert json.loads(out.getvalue())["deep"] == ["[secret]"]


def test_the_longer_of_two_secrets_goes_first_and_short_ones_are_ignored() -> None:
    for secret in ("abcd", "abcdef", "a", ""):
        register_secret(secret)
    assert redact("xabcdefx a") == "x[secret]x a"


def test_a_second_call_replaces_the_first() -> None:
    first, second = io.StringIO(), io.StringIO()
    configure_logging("info", LogFormat.TEXT, first)
    configure_logging("info", LogFormat.TEXT, second)
    logger("x").info("once")
    assert first.getvalue() == ""
    assert second.getvalue().count("once") == 1


def test_a_host_that_configured_nothing_of_ours_handles_our_records(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO):
        logger("x").info("for the host")
    assert caplog.messages == ["for the host"]
