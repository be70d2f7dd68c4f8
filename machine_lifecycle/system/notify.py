"""The sending end of the sd_notify protocol, for our own processes."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Mapping

__all__ = ["beat"]


async def beat(environ: Mapping[str, str]) -> None:
    """Say ``WATCHDOG=1`` twice in each interval that whoever started us asks for (WATCHDOG_USEC),
    until this is cancelled; return at once if nobody asks. As long as the event loop runs, that is:
    a loop that hangs says nothing.
    """
    path, wanted = environ.get("NOTIFY_SOCKET", ""), environ.get("WATCHDOG_USEC", "")
    if not path or not wanted.isdigit() or not int(wanted):
        return
    address = f"\0{path[1:]}" if path.startswith("@") else path
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        sender.setblocking(False)  # noqa: FBT003 - has no name
        while True:
            with contextlib.suppress(OSError):  # nobody listens: between two orchestrators
                sender.sendto(b"WATCHDOG=1", address)
            await asyncio.sleep(int(wanted) / 2e6)
