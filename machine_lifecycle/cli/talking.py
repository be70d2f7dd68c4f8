"""Talk to the running machine; complete the names of its processes in a shell."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from machine_lifecycle.cli.did_you_mean import did_you_mean
from machine_lifecycle.cli.environment import open_paths
from machine_lifecycle.control.client import ControlClient
from machine_lifecycle.control.commands import signal_number
from machine_lifecycle.errors import LifecycleError, RemoteError, as_one

__all__ = ["PROCESS", "SIGNAL", "ask", "ask_each"]

_T = TypeVar("_T")
_PATIENCE = 1.0
"""Seconds that a shell waits for a completion at most."""


def ask(ctx: click.Context, conversation: Callable[[ControlClient], Awaitable[_T]]) -> _T:
    """Hold a conversation with the running machine."""

    async def talk() -> _T:
        async with ControlClient(open_paths(ctx).control_socket) as client:
            return await conversation(client)

    return asyncio.run(talk())


def ask_each(ctx: click.Context, call: str, names: Sequence[str], told: str) -> None:
    """Ask something of each of several processes; what is refused about one holds up no other.

    Args:
        ctx: Of the command.
        call: What is asked, by its name on the control socket.
        names: Of the processes.
        told: What is printed of each that was not refused, with ``{name}`` in it.

    Raises:
        LifecycleError: It was refused about some, or no machine answers.
    """

    async def each(client: ControlClient) -> None:
        refused = []
        for name in dict.fromkeys(names):
            try:
                await client.call(call, name=name)
            except RemoteError as error:
                refused.append(error)
            else:
                click.echo(told.format(name=name))
        if refused:
            raise as_one("processes", refused)

    ask(ctx, each)


class _Process(click.ParamType[str]):
    """The name of a process; a shell completes it from the running machine."""

    name = "name"

    def shell_complete(
        self,
        ctx: click.Context,
        param: click.Parameter,  # noqa: ARG002 - click's
        incomplete: str,
    ) -> list[CompletionItem]:
        """Names that begin so; none if no machine runs."""

        async def names(client: ControlClient) -> list[dict[str, Any]]:
            async with asyncio.timeout(_PATIENCE):
                report = await client.call("status")
            return [process for process in report["processes"] if not process["ours"]]

        try:
            found = ask(ctx, names)
        except (LifecycleError, TimeoutError, OSError):
            return []
        return [
            CompletionItem(process["name"], help=process["state"])
            for process in found
            if process["name"].startswith(incomplete)
        ]


def _signals() -> list[str]:
    return sorted(number.name for number in signal.Signals)


class _Signal(click.ParamType[str]):
    """The name or the number of a signal."""

    name = "signal"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> str:
        """Refuse what names no signal."""
        written = str(value)
        if signal_number(written) is None:
            hint = did_you_mean(f"SIG{written.upper().removeprefix('SIG')}", _signals())
            self.fail(f"there is no signal {written!r}.{hint}", param, ctx)
        return written

    def shell_complete(
        self,
        ctx: click.Context,  # noqa: ARG002 - click's
        param: click.Parameter,  # noqa: ARG002 - likewise
        incomplete: str,
    ) -> list[CompletionItem]:
        """Names that begin so, with or without SIG."""
        word = incomplete.upper()
        return [
            CompletionItem(name)
            for name in _signals()
            if name.startswith(word) or name[3:].startswith(word)
        ]


PROCESS = _Process()
SIGNAL = _Signal()
