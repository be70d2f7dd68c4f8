"""The other end of the control socket: what commands use."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any, Self

from machine_lifecycle.control.errors import MachineUnresponsive
from machine_lifecycle.control.messages import MAX_LINE, decode, encode
from machine_lifecycle.errors import RemoteError
from machine_lifecycle.system.errors import MachineNotRunning
from machine_lifecycle.system.folders import machines_beside

__all__ = ["ControlClient"]

_LONGEST_ANSWER = 16 * MAX_LINE


class ControlClient:
    """Talks to the running machine. An async context manager.

    Raises:
        MachineNotRunning: On entering: nobody listens on the socket.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._turn = asyncio.Lock()
        self._ends: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def __aenter__(self) -> Self:
        self._ends = await self._open()
        return self

    async def __aexit__(self, *_: object) -> None:
        ends, self._ends = self._ends, None
        if ends is not None:
            await _close(ends[1])

    async def call(self, name: str, /, **args: Any) -> Any:
        """Ask for one thing. A call that is given up ends its connection; the next opens another.

        Returns:
            The machine's answer, as JSON values.

        Raises:
            RemoteError: What the machine answered instead.
            MachineUnresponsive: It went away before it answered.
        """
        async with self._turn:
            if self._ends is None:
                raise self._nobody()
            reader, writer = self._ends
            if writer.is_closing():
                reader, writer = self._ends = await self._open()
            try:
                answer = await self._ask(reader, writer, name, args)
            except RemoteError:
                raise
            except BaseException:
                # Its answer may still come, and would be taken for that of the next call.
                writer.close()
                raise
        return answer.get("ok")

    async def stream(self, name: str, /, **args: Any) -> AsyncGenerator[Any, None]:
        """Ask for many things, over a connection of its own; closing the iterator ends it.

        Yields:
            Items as JSON values, until the machine says that there are no more.

        Raises:
            RemoteError: What the machine answered instead.
            MachineUnresponsive: It went away before the end.
        """
        reader, writer = await self._open()
        try:
            answer = await self._ask(reader, writer, name, args)
            while "item" in answer:
                yield answer["item"]
                answer = await self._answer(reader, name)
        finally:
            await _close(writer)

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        try:
            reader, writer = await asyncio.open_unix_connection(
                str(self._path), limit=_LONGEST_ANSWER
            )
        except (FileNotFoundError, ConnectionRefusedError) as cause:
            raise self._nobody() from cause
        writer.write(encode({"hello": "client"}))
        return reader, writer

    def _nobody(self) -> MachineNotRunning:
        beside = machines_beside(self._path)
        return MachineNotRunning(path=self._path, reason="nobody listens on it", beside=beside)

    async def _ask(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        name: str,
        args: dict[str, Any],
    ) -> dict[str, Any]:
        try:
            writer.write(encode({"call": name, "args": args}))
            await writer.drain()
        except ConnectionError as cause:
            raise MachineUnresponsive(path=str(self._path), call=name) from cause
        return await self._answer(reader, name)

    async def _answer(self, reader: asyncio.StreamReader, name: str) -> dict[str, Any]:
        try:
            line = await reader.readline()
        except ConnectionError as cause:
            raise MachineUnresponsive(path=str(self._path), call=name) from cause
        if not line.endswith(b"\n"):
            raise MachineUnresponsive(path=str(self._path), call=name)
        answer = decode(line)
        if "error" in answer:
            raise RemoteError(wire=answer["error"])
        return answer


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    try:
        await writer.wait_closed()
    except ConnectionError:
        return  # the other end was faster
