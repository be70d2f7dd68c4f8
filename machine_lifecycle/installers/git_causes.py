"""What stood in git's way, read from its own words in the C locale, and from what a server sent."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from machine_lifecycle.installers.git_errors import GitCause

__all__ = ["cause_in", "retry_after_in"]

_WORDS = (
    # The server is there and refuses, whatever git says of the connection beside that.
    (GitCause.OTHER, ("error: 400", "error: 405", "error: 413", "error: 501")),
    (
        GitCause.NETWORK,
        (
            *("Could not resolve host", "Failed to connect", "Connection ", "timed out"),
            *("early EOF", "unexpected disconnect", "hung up unexpectedly", "Empty reply"),
            *("too slow", "Recv failure", "Send failure", "transfer closed", "RPC failed"),
            *("SSL_ERROR_SYSCALL", "SSL connection timeout", "unexpected eof while reading"),
            *("error: 408", "error: 429", "error: 500", "error: 502", "error: 503", "error: 504"),
        ),
    ),
    (GitCause.TLS, ("certificate", "SSL ", "TLS")),
    (
        GitCause.AUTH,
        (
            *("could not read Username", "Authentication failed", "Permission denied"),
            *("Host key verification failed", "error: 401", "error: 403"),
        ),
    ),
    (
        GitCause.REF,
        (
            *("not our ref", "not a tree", "pathspec", "couldn't find remote ref"),
            *("needed a single", "unadvertised object"),
        ),
    ),
    (GitCause.NOT_FOUND, ("not found", "does not exist", "does not appear to be a git repo")),
)

_RETRY_AFTER = re.compile(r"<= Recv header: retry-after: *([^\r\n]+)", re.IGNORECASE)


def cause_in(lines: Sequence[str], *, login: bool = False) -> GitCause:
    """What stood in git's way, as far as its words tell.

    Args:
        lines: What it said.
        login: Whether it was given a name and a password.
    """
    text = "\n".join(lines).lower()
    for cause, words in _WORDS:
        if any(word.lower() in text for word in words):
            return GitCause.LOGIN if cause is GitCause.AUTH and login else cause
    return GitCause.OTHER


def retry_after_in(trace: str, now: datetime | None = None) -> float:
    """Seconds that a server asked to wait for, in what curl wrote of its answers; 0 if it did not.

    It is a number of seconds or a date (RFC 9110, 10.2.3).
    """
    said = _RETRY_AFTER.findall(trace)
    if not said:
        return 0.0
    text = said[-1].strip()
    if text.isdigit():
        return float(text)
    with contextlib.suppress(ValueError):
        until = parsedate_to_datetime(text)
        return max(0.0, (until - (now or datetime.now(UTC))).total_seconds())
    return 0.0
