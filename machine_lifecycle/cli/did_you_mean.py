"""What may have been meant, where a word on the command line is none of those it could be."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import ClassVar

import click

__all__ = ["GroupThatHints", "did_you_mean"]


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A sentence for the end of a refusal, with a space before it; nothing if none is close."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


class GroupThatHints(click.Group):
    """A group that names the command which may have been meant.

    Attributes:
        elsewhere: What other programs call it, and what it is called here.
    """

    elsewhere: ClassVar[Mapping[str, str]] = MappingProxyType({})

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Refuse a command that is none with the one that may have been meant."""
        name = args[0]
        if not name.startswith("-") and self.get_command(ctx, name) is None:
            hint = did_you_mean(name, self.list_commands(ctx))
            if name in self.elsewhere:
                hint = f" Did you mean {self.elsewhere[name]!r}?"
            ctx.fail(f"No such command {name!r}.{hint}")
        return super().resolve_command(ctx, args)
