"""Events to a web address: signed, in order, tried again where that can help."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import logging
import time
from collections.abc import Collection
from types import TracebackType
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

from machine_lifecycle.lifecycle.events import Event

if TYPE_CHECKING:
    import aiohttp

__all__ = ["SIGNATURE", "Webhook", "signature"]

SIGNATURE = "X-Machine-Signature"
"""Header with ``t=SECONDS,v1=HEX``; see ``signature``."""

_TIMEOUT = 10.0
"""Seconds for one try, from connecting to the answer."""
_WAITS = (0.5, 1.0, 2.0, 4.0)
"""Seconds before each further try of one event."""
_LONGEST_WAIT = 30.0
"""Seconds: what a server may ask for at most by ``Retry-After``."""
_TOO_MANY, _SERVER_ERROR, _CLIENT_ERROR = 429, 500, 400
_log = logging.getLogger("machine_lifecycle.hooks")


def signature(secret: str, at: int, body: bytes) -> str:
    """What the signature header says: ``t`` is when it was signed (seconds since 1970), ``v1`` the
    HMAC-SHA256 of ``t``, a full stop and the body, in hex. The receiver computes the same, compares
    in constant time, and refuses what is old.
    """
    mac = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256)
    return f"t={at},v1={mac.hexdigest()}"


class Webhook:
    """Posts events as JSON. An async context manager; an observer once it is entered.

    Each is tried up to five times: when nobody answers, at 429 and at 500 and above. What is
    refused otherwise, or still fails, is told in the log and left out.
    """

    def __init__(self, url: str, *, secret: str, kinds: Collection[str]) -> None:
        """Nothing is opened yet.

        Args:
            url: Where to post; may hold a token, so it is never logged but for its host.
            secret: Signs each body; empty for none.
            kinds: The kinds of events to send.
        """
        self._url = url
        self._host = urlsplit(url).hostname or "?"
        self._secret = secret
        self._kinds = frozenset(kinds)
        self._life = f"{time.time_ns():x}"
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        import aiohttp  # noqa: PLC0415 - 380 ms, for those who set a webhook

        timeout = aiohttp.ClientTimeout(total=_TIMEOUT)
        self._session = aiohttp.ClientSession(timeout=timeout)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def __call__(self, event: Event) -> None:
        """Post one event, if it is of a kind to send. Never raises."""
        if event.kind not in self._kinds or self._session is None:
            return
        body = json.dumps(event.to_wire(), separators=(",", ":")).encode()
        for wait in (*_WAITS, None):
            problem, asked = await self._post(self._session, event, body)
            if not problem:
                return
            if asked is None or wait is None:
                break
            await asyncio.sleep(min(_LONGEST_WAIT, max(wait, asked)))
        _log.warning(
            "the webhook at %s did not take event %d (%s): %s",
            *(self._host, event.seq, event.kind, problem),
        )

    async def _post(
        self, session: aiohttp.ClientSession, event: Event, body: bytes
    ) -> tuple[str, float | None]:
        """What went wrong, and the least seconds until another try; ``None`` if none can help."""
        import aiohttp  # noqa: PLC0415 - see __aenter__

        headers = {
            "Content-Type": "application/json",
            "X-Machine-Event": event.kind,
            # The same at every try of one event: a receiver that has it answers, and forgets it.
            "X-Machine-Delivery": f"{event.machine_id}-{self._life}-{event.seq}",
        }
        if self._secret:
            headers[SIGNATURE] = signature(self._secret, int(time.time()), body)
        try:
            async with session.post(
                self._url, data=body, headers=headers, allow_redirects=False
            ) as answer:
                if answer.status < _CLIENT_ERROR:
                    return "", None
                again = answer.status == _TOO_MANY or answer.status >= _SERVER_ERROR
                after = answer.headers.get("Retry-After", "")
                wait = float(after) if after.isdecimal() else 0.0
                return f"status {answer.status}", wait if again else None
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            # The words of some name the whole address.
            return type(error).__name__, 0.0
