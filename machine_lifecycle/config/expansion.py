"""``${VAR}`` and ``${VAR:-default}`` in text. Pure: the variables are passed in."""

from __future__ import annotations

import re
from collections.abc import Mapping

import attrs

__all__ = ["Expansion", "expand"]

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@attrs.frozen(kw_only=True)
class Expansion:
    """What became of a text.

    Attributes:
        text: With every reference replaced.
        problems: What could not be replaced, in words, each with its column from 1.
        missing: Names of the variables that are not set and have no default, in order.
    """

    text: str
    problems: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()

    @property
    def malformed(self) -> bool:
        """Whether more is wrong than variables that are not set."""
        return len(self.problems) > len(self.missing)


@attrs.define(kw_only=True)
class _Reader:
    text: str
    values: Mapping[str, str]
    problems: list[str] = attrs.field(factory=list)
    missing: list[str] = attrs.field(factory=list)

    def read(self, start: int, *, inside: bool, live: bool) -> tuple[str, int]:
        """The expanded text from *start*, up to its end or (*inside*) a closing brace.

        A default that is not needed is read all the same (*live* is false), to find its end.
        """
        parts: list[str] = []
        at = start
        while at < len(self.text):
            if self.text.startswith("$${", at):
                parts.append("${")
                at += 3
            elif self.text.startswith("${", at):
                value, at = self._reference(at, live=live)
                parts.append(value)
            elif inside and self.text[at] == "}":
                return "".join(parts), at
            else:
                parts.append(self.text[at])
                at += 1
        return "".join(parts), at

    def _reference(self, start: int, *, live: bool) -> tuple[str, int]:
        name = _NAME.match(self.text, start + 2)
        if name is None:
            return self._bad(start, "a variable's name must follow `${`", live=live)
        value = self.values.get(name[0], "")
        at = name.end()
        has_default = self.text.startswith(":-", at)
        default = ""
        if has_default:
            default, at = self.read(at + 2, inside=True, live=live and not value)
        if not self.text.startswith("}", at):
            return self._bad(start, f"`${{{name[0]}` has no closing brace", live=live)
        if not value and not has_default and live:
            self.missing.append(name[0])
            self.problems.append(
                f"column {start + 1}: the variable {name[0]} is not set and has no default"
            )
        return value or default, at + 1

    def _bad(self, start: int, problem: str, *, live: bool) -> tuple[str, int]:
        if live:
            self.problems.append(f"column {start + 1}: {problem}")
        return "", len(self.text)


def expand(text: str, values: Mapping[str, str]) -> Expansion:
    """Replace every reference in *text*.

    A variable that is empty counts as unset, as with ``:-`` in a shell. Defaults may hold
    references. ``$${`` stands for a literal ``${``; a ``$`` without a brace stands for itself.
    """
    reader = _Reader(text=text, values=values)
    result, _ = reader.read(0, inside=False, live=True)
    return Expansion(text=result, problems=tuple(reader.problems), missing=tuple(reader.missing))
