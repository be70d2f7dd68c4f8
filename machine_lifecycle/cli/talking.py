"""Talk to the running machine; complete the names of its processes in a shell."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from machine_lifecycle.cli.environment import open_paths
from machine_lifecycle.control.client import ControlClient
from machine_lifecycle.errors import LifecycleError

__all__ = ["PROCESS", "SIGNAL", "ask"]

_T = TypeVar("_T")
_PATIENCE = 1.0
"""Seconds that a shell waits for a completion at most."""


def ask(ctx: click.Context, conversation: Callable[[ControlClient], Awaitable[_T]]) -> _T:
    """Hold a conversation with the running machine."""

    async def talk() -> _T:
        async with ControlClient(open_paths(ctx).control_socket) as client:
            return await conversation(client)

    return asyncio.run(talk())


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


class _Signal(click.ParamType[str]):
    """The name of a signal."""

    name = "signal"

    def shell_complete(
        self,
        ctx: click.Context,  # noqa: ARG002 - click's
        param: click.Parameter,  # noqa: ARG002 - likewise
        incomplete: str,
    ) -> list[CompletionItem]:
        """Names that begin so, with or without SIG."""
        word = incomplete.upper()
        names = sorted(number.name for number in signal.Signals)
        return [
            CompletionItem(name)
            for name in names
            if name.startswith(word) or name[3:].startswith(word)
        ]


PROCESS = _Process()
SIGNAL = _Signal()
