"""What other packages offer: entry points by name, and references by ``module:attribute``."""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Iterable
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from machine_lifecycle.model.offers import Offer
from machine_lifecycle.services.errors import PluginClash, ServiceBroken, ServiceUnknown

__all__ = ["find_plugin", "folder_of", "is_there", "load_reference", "offered", "package_of"]


def load_reference(reference: str, origin: str) -> Any:
    """The object that ``module:attribute`` names.

    Raises:
        ServiceBroken: It can't be imported, whatever the reason.
    """
    module, _, attribute = reference.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for name in attribute.split("."):
            found = getattr(found, name)
    except Exception as error:
        problem = f"{type(error).__name__}: {error}"
        folder = "" if is_there(reference) else folder_of(reference)
        raise ServiceBroken(
            reference=reference, origin=origin, problem=problem, folder=folder
        ) from error
    return found


def is_there(reference: str) -> bool:
    """Whether the outermost package of a ``module:attribute`` can be found. Imports nothing."""
    package = _package(reference)
    try:
        return package in sys.modules or find_spec(package) is not None
    except (ImportError, ValueError):
        return False


def folder_of(reference: str) -> str:
    """The folder that lacks on Python's path, if it is the one we are in: a program that pip made
    does not look there, other than ``python -c``.
    """
    here, package = Path.cwd(), _package(reference)
    lies_here = (here / f"{package}.py").is_file() or (here / package).is_dir()
    return str(here) if lies_here else ""


def _package(reference: str) -> str:
    return reference.partition(":")[0].partition(".")[0]


def offered(name: str, entries: Iterable[EntryPoint]) -> EntryPoint | None:
    """The entry point of this name; ``None`` if nobody has one.

    Raises:
        PluginClash: Two packages have it.
    """
    found = [entry for entry in entries if entry.name == name]
    if len(found) > 1:
        raise PluginClash(name=name, distributions=tuple(package_of(one) for one in found))
    return found[0] if found else None


def package_of(entry: EntryPoint) -> str:
    """The package that offers an entry point, with its version."""
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist else entry.value


def find_plugin(name: str, *, offer: Offer) -> tuple[Any, str]:
    """What is offered under a name, or stands at a reference; and where it is from.

    Args:
        name: Name of an entry point, or ``module:attribute``.
        offer: What it is meant to be.

    Raises:
        ServiceUnknown: Nobody has it.
        PluginClash: Two packages have it.
        ServiceBroken: It can't be loaded.
    """
    if ":" in name:
        return load_reference(name, "by reference"), name
    entries = tuple(entry_points(group=offer.group))
    found = offered(name, entries)
    if found is None:
        known = tuple(sorted(entry.name for entry in entries))
        close = difflib.get_close_matches(name, known, n=1)
        raise ServiceUnknown(
            kind=offer.value, name=name, known=known, close=close[0] if close else ""
        )
    origin = package_of(found)
    return load_reference(found.value, origin), origin
