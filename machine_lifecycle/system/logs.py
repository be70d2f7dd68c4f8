"""Log lines: text for people on a terminal, JSON for collectors elsewhere.

On the standard library's ``logging`` alone: structlog takes 190 ms to import on the machine where
this was measured, logging 19 ms, which asyncio has loaded anyway; and the lines below are all that
was needed of it. Only the command line calls ``configure_logging``. A program that imports this
package gets our records under ``machine_lifecycle`` in its own logging, and sees none of them but
warnings unless it asks.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any, TextIO

from machine_lifecycle.model.settings import LogFormat
from machine_lifecycle.model.wire import to_json_value
from machine_lifecycle.system.errors import OutputNotWritten
from machine_lifecycle.system.streams import ReaderGone

__all__ = [
    "configure_logging",
    "forget_secrets",
    "log_stream",
    "logger",
    "redact",
    "register_secret",
]

_ROOT = "machine_lifecycle"
_REMOVED = "[secret]"
_SHORTEST_SECRET = 4
"""Shorter values would take harmless text out of every line, and protect nothing."""

_COLOURS = {"debug": "2", "info": "32", "warning": "33", "error": "31", "critical": "31;1"}
_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}

_secrets: frozenset[str] = frozenset()
_lock = threading.Lock()


def register_secret(value: str) -> None:
    """Have this value taken out of every log line, wherever it turns up.

    The last line of defence: nothing should try to log one. Values of less than 4 characters are
    ignored.
    """
    global _secrets  # noqa: PLW0603 - one process has one set of secrets
    if len(value) >= _SHORTEST_SECRET:
        with _lock:
            _secrets |= {value}


def forget_secrets() -> None:
    """Forget all of them: for a program that opens machines one after another."""
    global _secrets  # noqa: PLW0603 - see above
    with _lock:
        _secrets = frozenset()


def redact(text: str) -> str:
    """The text without any registered secret, whether plain or as JSON writes it."""
    for secret in sorted(_secrets, key=len, reverse=True):  # one may be a part of another
        for form in {
            secret,
            json.dumps(secret)[1:-1],
            json.dumps(secret, ensure_ascii=False)[1:-1],
        }:
            text = text.replace(form, _REMOVED)
    return text


def logger(component: str) -> logging.Logger:
    """The logger of one part: ``logger("health").info("listens", extra={"port": 9090})``."""
    return logging.getLogger(f"{_ROOT}.{component}")


def configure_logging(
    level: str, log_format: LogFormat, stream: TextIO, *, colour: bool = True
) -> None:
    """Send our records to a stream. A second call replaces what the first set up.

    Args:
        level: ``debug``, ``info``, ``warning`` or ``error``.
        log_format: ``auto`` is text on a terminal and JSON elsewhere.
        stream: Where lines go, usually stderr.
        colour: Whether a terminal may be coloured; false where NO_COLOR is set.
    """
    terminal = stream.isatty()
    text = log_format is LogFormat.TEXT or (log_format is LogFormat.AUTO and terminal)
    handler = _Handler(stream)
    handler.setFormatter(_Text(colour=colour and terminal) if text else _Json())
    root = logging.getLogger(_ROOT)
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper())
    root.propagate = False


def log_stream() -> TextIO:
    """Where our lines go; stdout if nobody has configured it."""
    for handler in logging.getLogger(_ROOT).handlers:
        if isinstance(handler, _Handler):
            return handler.stream
    return sys.stdout


class _Handler(logging.StreamHandler[TextIO]):
    """Goes quiet when nobody reads any more, instead of a trace on stderr for each line."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's
        """A line could not be written."""
        error = sys.exc_info()[1]
        # A full disk, a broken pipe, a terminal that has gone.
        if isinstance(error, OutputNotWritten | ReaderGone | OSError):
            return
        super().handleError(record)


def _fields(record: logging.LogRecord) -> Mapping[str, Any]:
    """What was given as ``extra``."""
    return {name: value for name, value in vars(record).items() if name not in _OWN}


def _component(record: logging.LogRecord) -> str:
    return record.name.removeprefix(f"{_ROOT}.")


def _trace(record: logging.LogRecord) -> str:
    return logging.Formatter().formatException(record.exc_info) if record.exc_info else ""


def _plain(value: Any) -> Any:
    try:
        return to_json_value(value)
    except TypeError:
        return repr(value)


class _Text(logging.Formatter):
    """``12:16:52.647 [info] [component] message key=value``, local time."""

    def __init__(self, *, colour: bool) -> None:
        super().__init__()
        self._colour = colour

    def format(self, record: logging.LogRecord) -> str:
        """One record; a trace follows on lines of its own."""
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        level = record.levelname.lower()
        parts = [
            self._paint("2", f"{clock}.{int(record.msecs):03}"),
            self._paint(_COLOURS.get(level, "0"), f"[{level}]"),
            self._paint("36", f"[{_component(record)}]"),
            record.getMessage(),
            *(f"{self._paint('2', name + '=')}{_word(v)}" for name, v in _fields(record).items()),
        ]
        trace = _trace(record)
        return redact(" ".join(parts) + (f"\n{trace}" if trace else ""))

    def _paint(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._colour else text


def _word(value: Any) -> str:
    """A value on a line of text: quoted if it would not be one word."""
    text = value if isinstance(value, str) else json.dumps(_plain(value), ensure_ascii=False)
    simple = text and not any(letter.isspace() or letter in '"=' for letter in text)
    return text if simple or not isinstance(value, str) else json.dumps(text, ensure_ascii=False)


class _Json(logging.Formatter):
    """One JSON object a line: ``time`` (UTC), ``level``, ``component``, ``message``, the fields."""

    def format(self, record: logging.LogRecord) -> str:
        """One record."""
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line = {
            "time": f"{seconds}.{int(record.msecs):03}Z",
            "level": record.levelname.lower(),
            "component": _component(record),
            "message": record.getMessage(),
            **{name: _plain(value) for name, value in _fields(record).items()},
        }
        trace = _trace(record)
        if trace:
            line["trace"] = trace
        return redact(json.dumps(line, ensure_ascii=False))
