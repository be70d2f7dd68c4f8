"""What is known of package names: those that exclude each other, and modules taken for packages.

The facts are data, ``families.json``, each with its source.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from functools import cache
from importlib import resources

import attrs
from packaging.utils import canonicalize_name

__all__ = ["FAMILIES", "Family", "families", "module_of"]

FAMILIES = "families.json"


@attrs.frozen(kw_only=True)
class Choice:
    """One line of a family's rule.

    Attributes:
        take: The member that is installed.
        if_any: Holds if one of these is asked for; empty: always.
        on_gpu: Holds only where torch is built for GPUs.
    """

    take: str
    if_any: tuple[str, ...] = ()
    on_gpu: bool = False


@attrs.frozen(kw_only=True)
class Family:
    """Packages of which an environment can hold one.

    Attributes:
        name: For people.
        rule: Why, and which is taken, in words.
        members: All of them.
        choose: The rule: the first line that holds.
    """

    name: str
    rule: str
    members: tuple[str, ...]
    choose: tuple[Choice, ...]

    def chosen(self, asked: Collection[str], *, gpu: bool) -> str:
        """The one that is installed for those that are *asked* for; empty: none is."""
        here = set(self.members).intersection(asked)
        for choice in self.choose if here else ():
            if (gpu or not choice.on_gpu) and (
                not choice.if_any or here.intersection(choice.if_any)
            ):
                return choice.take
        return ""


@cache
def _data() -> dict[str, object]:
    text = resources.files(__package__).joinpath(FAMILIES).read_text(encoding="utf-8")
    return dict(json.loads(text))


@cache
def families() -> tuple[Family, ...]:
    """Every family there is."""
    listed = _data()["families"]
    if not isinstance(listed, list):  # the file that ships is wrong
        raise TypeError(FAMILIES)
    return tuple(
        Family(
            name=one["name"],
            rule=one["rule"],
            members=tuple(one["members"]),
            choose=tuple(
                Choice(
                    take=choice["take"],
                    if_any=tuple(choice.get("if_any", ())),
                    on_gpu=choice.get("on_gpu", False),
                )
                for choice in one["choose"]
            ),
        )
        for one in listed
    )


def module_of(name: str) -> str:
    """The package whose module *name* is, where that is no package itself; else empty."""
    modules = _data()["modules"]
    if not isinstance(modules, dict):  # the file that ships is wrong
        raise TypeError(FAMILIES)
    head, dot, _ = name.lower().partition(".")
    if dot and head in modules["heads"]:
        return str(modules["names"].get(head, head))
    return str(modules["names"].get(canonicalize_name(name), ""))
