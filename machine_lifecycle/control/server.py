"""The machine's Unix socket: commands from people, and the links of our workers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from machine_lifecycle.control.commands import Calls, ControlCommands
from machine_lifecycle.control.errors import ControlMessageUnusable, ControlSocketInUse
from machine_lifecycle.control.links import Links
from machine_lifecycle.control.messages import MAX_LINE, decode, encode, text_of
from machine_lifecycle.errors import LifecycleError
from machine_lifecycle.states.errors import InternalFault
from machine_lifecycle.system.tasks import end_tasks

__all__ = ["ControlServer"]

_log = logging.getLogger("machine_lifecycle.control")

_PATIENCE = 10.0
"""Seconds that a reader may let our lines wait before it is dropped."""
_MOST_UNREAD = 4 << 20
"""Bytes that may wait for a worker that does not read before it is dropped."""


class ControlServer:
    """Listens on the machine's control socket.

    Args:
        path: The socket; its folder should be 0700, and it is made so if it is not there.
        commands: Does what clients ask.
        links: Hears what workers say.
        patience: Seconds that a client may be behind in reading a stream.
    """

    def __init__(
        self, path: Path, commands: ControlCommands, links: Links, *, patience: float = _PATIENCE
    ) -> None:
        self._path = path
        self._calls = Calls(commands)
        self._links = links
        self._patience = patience
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen. A socket file that nobody listens on any more is replaced.

        Raises:
            ControlSocketInUse: Somebody does listen on it.
        """
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        await self._clear()
        listener = socket.socket(socket.AF_UNIX)
        try:
            listener.bind(str(self._path))
            self._path.chmod(0o600)  # before anybody can connect: nothing listens yet
            self._server = await asyncio.start_unix_server(
                self._accept, sock=listener, limit=MAX_LINE, start_serving=False
            )
            await self._server.start_serving()
        except BaseException:
            listener.close()
            raise

    async def _clear(self) -> None:
        try:
            _, writer = await asyncio.open_unix_connection(str(self._path))
        except FileNotFoundError:
            return
        except ConnectionRefusedError:
            self._path.unlink(missing_ok=True)
            return
        writer.close()
        raise ControlSocketInUse(path=str(self._path))

    async def close(self) -> None:
        """Stop listening, end every conversation, remove the socket. Safe to call twice."""
        server, self._server = self._server, None
        if server is None:
            return
        loop = asyncio.get_running_loop()
        for listener in server.sockets:
            loop.remove_reader(listener.fileno())
        # A connection that asyncio is still accepting when its server closes is never closed
        # (CPython: Server._attach asserts), nor can a conversation hang up that has not begun.
        # Both are past these turns of the loop.
        for _ in range(3):
            await asyncio.sleep(0)
        server.close()
        await end_tasks(*self._tasks)  # one may be asking Redis to publish
        await server.wait_closed()
        self._path.unlink(missing_ok=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._server is None:  # it was accepted while we closed
            writer.transport.abort()
            return
        task = asyncio.ensure_future(self._hold(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _hold(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, from its first line to its end."""
        try:
            if _is_allowed(writer.get_extra_info("socket")):
                await self._converse(reader, writer)
        except LifecycleError as error:
            writer.write(encode({"error": error.to_wire()}))
        except (ConnectionError, TimeoutError):
            _log.debug("a connection to the control socket broke")
        except asyncio.CancelledError:
            _log.debug("the control socket closes: a conversation ends")
        finally:
            await _hang_up(writer)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        hello = await _next(reader)
        if hello is None:
            return
        who = text_of(hello, "hello")
        if who == "worker":
            await self._worker(hello, reader, writer)
        elif who == "client":
            await self._client(reader, writer)
        else:
            raise ControlMessageUnusable(reason=f"hello from a stranger: {who!r}")

    async def _worker(
        self, hello: dict[str, Any], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        def send(message: dict[str, Any]) -> None:
            if writer.is_closing():
                return
            writer.write(encode(message))
            if writer.transport.get_write_buffer_size() > _MOST_UNREAD:
                writer.transport.abort()

        session = self._links.attach(hello, send)
        try:
            while (message := await _next(reader)) is not None:
                self._links.hear(session, message)
        finally:
            self._links.detach(session)

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while (message := await _next(reader)) is not None:
            name, args = text_of(message, "call"), message.get("args", {})
            if not isinstance(args, dict):
                raise ControlMessageUnusable(reason="'args' must be an object")
            try:
                stream = self._calls.stream(name, args)
                if stream is None:
                    answer = {"ok": await self._calls.call(name, args)}
                else:
                    await self._pour(stream, reader, writer)
                    answer = {"end": True}
            except LifecycleError as error:
                answer = {"error": error.to_wire()}
            except (ConnectionError, TimeoutError):
                raise
            except Exception as cause:  # noqa: BLE001 - the edge: logged, and told to the client
                _log.exception("the call %s failed", name)
                fault = InternalFault(
                    during=f"the call {name}", kind=type(cause).__name__, message=str(cause)
                )
                answer = {"error": fault.to_wire()}
            await self._send(writer, answer)

    async def _pour(
        self,
        stream: AsyncIterator[Any],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        """Send all items, until the stream ends or the client hangs up."""

        async def send_all() -> None:
            async for item in stream:
                await self._send(writer, {"item": item})

        sending = asyncio.ensure_future(send_all())
        # Nothing is said while a stream runs, so that this read ends when the client has gone.
        leaving = asyncio.ensure_future(reader.read(1))
        try:
            await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if not sending.done():
                raise ConnectionResetError("the client has gone")
            await sending
        finally:
            for task in (sending, leaving):
                task.cancel()
            await asyncio.gather(sending, leaving, return_exceptions=True)
            closing = getattr(stream, "aclose", None)
            if closing is not None:
                await closing()

    async def _send(self, writer: asyncio.StreamWriter, message: dict[str, Any]) -> None:
        writer.write(encode(message))
        async with asyncio.timeout(self._patience):
            await writer.drain()


async def _next(reader: asyncio.StreamReader) -> dict[str, Any] | None:
    """The next line; ``None`` at the end of the stream."""
    try:
        line = await reader.readline()
    except ValueError as cause:
        raise ControlMessageUnusable(reason=f"longer than {MAX_LINE} bytes") from cause
    return decode(line) if line else None


async def _hang_up(writer: asyncio.StreamWriter) -> None:
    writer.close()
    try:
        async with asyncio.timeout(1):
            await writer.wait_closed()
    except (OSError, TimeoutError):
        writer.transport.abort()  # it does not read: what is left for it is thrown away
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def _is_allowed(peer: socket.socket) -> bool:
    """Whether the other end is this user or root. Where the kernel doesn't tell (not Linux), the
    socket's mode alone decides.
    """
    if not hasattr(socket, "SO_PEERCRED"):
        return True
    form = struct.Struct("3i")  # struct ucred: pid, uid, gid (man 7 unix)
    told = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, form.size)
    _, uid, _ = form.unpack(told)
    return uid in (0, os.getuid())
