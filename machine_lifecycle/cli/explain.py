"""``explain``: an error code in words, made from the error's class."""

from __future__ import annotations

import difflib
import importlib
import itertools
import types
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

import attrs
import click

from machine_lifecycle.cli.output import emit_json
from machine_lifecycle.errors import ExitCode, LifecycleError, registered_errors

__all__ = ["ERROR_MODULES", "all_errors", "explain"]

ERROR_MODULES = (
    "machine_lifecycle.assembly.errors",
    "machine_lifecycle.assembly.pack_floor",
    "machine_lifecycle.cli.errors",
    "machine_lifecycle.config.errors",
    "machine_lifecycle.connectors.errors",
    "machine_lifecycle.connectors.http_errors",
    "machine_lifecycle.control.errors",
    "machine_lifecycle.errors",
    "machine_lifecycle.fleet.errors",
    "machine_lifecycle.health.errors",
    "machine_lifecycle.installers.bundle_errors",
    "machine_lifecycle.installers.download_errors",
    "machine_lifecycle.installers.errors",
    "machine_lifecycle.installers.git_errors",
    "machine_lifecycle.installers.lock_errors",
    "machine_lifecycle.installers.package_errors",
    "machine_lifecycle.installers.preflight_errors",
    "machine_lifecycle.jobs.errors",
    "machine_lifecycle.jobs.oversize_errors",
    "machine_lifecycle.jobs.result_errors",
    "machine_lifecycle.jobs.unrunnable_errors",
    "machine_lifecycle.jobs.worker_errors",
    "machine_lifecycle.lifecycle.errors",
    "machine_lifecycle.plan.errors",
    "machine_lifecycle.services.errors",
    "machine_lifecycle.states.errors",
    "machine_lifecycle.supervisor.errors",
    "machine_lifecycle.system.errors",
    "machine_lifecycle.system.redis_errors",
)
"""Every module that has error classes; a test walks the package for others."""


def all_errors() -> dict[str, type[LifecycleError]]:
    """Every error class of this package, by code."""
    for name in ERROR_MODULES:
        importlib.import_module(name)
    inside = f"{__package__.partition('.')[0]}."
    return {
        code: kind
        for code, kind in registered_errors().items()
        if kind.__module__.startswith(inside)
    }


@click.command()
@click.argument("code", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def explain(code: str | None, as_json: bool) -> None:  # noqa: FBT001 - click passes options so
    """Explain an error code and its remedies; without one, list all codes."""
    known = all_errors()
    if code is None:
        _list(known, as_json=as_json)
        return
    if code not in known:
        near = difflib.get_close_matches(code, known, n=3, cutoff=0.4)
        hint = f"; close to it: {', '.join(near)}" if near else ""
        raise click.BadParameter(
            f"there is no error {code!r}{hint}. All codes: machine-lifecycle explain",
            param_hint="CODE",
        )
    value = _explained(code, known[code])
    if as_json:
        emit_json(value)
    else:
        _show(value)


def _list(known: Mapping[str, type[LifecycleError]], *, as_json: bool) -> None:
    titles = {code: _words(kind)[0] for code, kind in known.items()}
    if as_json:
        emit_json([{"code": code, "title": title} for code, title in titles.items()])
        return
    width = max(map(len, titles))
    for code, title in titles.items():
        click.echo(f"{code:<{width}}  {title}")


def _words(kind: type[LifecycleError]) -> tuple[str, str]:
    """The first sentence of the docstring, and the rest of it before its list of fields."""
    text = (kind.__doc__ or kind.code).split("Attributes:")[0].strip().replace("``", "`")
    title, _, rest = text.partition("\n\n")
    return " ".join(title.split()), " ".join(rest.split())


def _explained(code: str, kind: type[LifecycleError]) -> dict[str, Any]:
    title, meaning = _words(kind)
    samples = _samples(kind)
    remedies = dict.fromkeys(remedy for sample in samples for remedy in sample.remedies)
    # A group computes from its members what other classes fix.
    fixed: dict[str, Any] = {
        name: None if isinstance(value := getattr(kind, name), property) else value
        for name in ("recoverable", "exit_code")
    }
    return {
        "code": code,
        "title": title,
        "meaning": meaning,
        **fixed,
        "example": samples[0].summary if samples else "",
        "remedies": [attrs.asdict(remedy) for remedy in remedies],
    }


def _show(value: Mapping[str, Any]) -> None:
    click.echo(f"{click.style(value['code'], bold=True)}: {value['title']}")
    if value["meaning"]:
        click.echo(f"\n{value['meaning']}")
    again = {
        True: "yes, within the boot attempts",
        False: "no, somebody must act first",
        None: "if all of its parts would be",
    }
    click.echo(f"\ntried again:  {again[value['recoverable']]}")
    status = "that of its parts" if value["exit_code"] is None else value["exit_code"]
    click.echo(f"exit status:  {status}{_STATUS_WORDS.get(value['exit_code'], '')}")
    if value["example"]:
        click.echo(f"reads like:   {value['example']}")
    for number, remedy in enumerate(value["remedies"]):
        click.echo("\nremedies, with sample values:" if number == 0 else "", nl=number == 0)
        click.echo(f"  -> {remedy['text']}")
        if remedy["command"]:
            click.echo(f"       {click.style(remedy['command'], bold=True)}")


_STATUS_WORDS = {
    ExitCode.CONFIGURATION: " (bad configuration)",
    ExitCode.BOOT_FAILED: " (boot failed)",
    ExitCode.GATE_REFUSED: " (a gate refused)",
    ExitCode.OUTPUT_NOT_WRITTEN: " (the output is lost)",
}


def _samples(kind: type[LifecycleError]) -> tuple[LifecycleError, ...]:
    """Errors of this class, their facts made up from the fields' types and names: one for each
    member of an enumeration.

    None where facts can't be made up, so that an odd class still has its words explained.
    """
    try:
        facts = _facts(kind)
        members = {name: type(fact) for name, fact in facts.items() if isinstance(fact, Enum)}
        samples = tuple(
            kind(**{**facts, **dict(zip(members, each, strict=True))})
            for each in itertools.product(*members.values())
        )
        _ = [(sample.summary, sample.remedies) for sample in samples]
    except (TypeError, ValueError, KeyError, AttributeError, IndexError):
        return ()
    return samples


def _facts(kind: type[attrs.AttrsInstance]) -> dict[str, Any]:
    """A value for each field that needs one."""
    hints = get_type_hints(kind)
    return {
        field.name: _fact(field.name, hints.get(field.name, str))
        for field in attrs.fields(kind)
        if field.default is attrs.NOTHING
    }


_NAMED: dict[str, Any] = {
    "host": "127.0.0.1",
    "port": 8188,
    "seconds": 60.0,
    "code": 1,
    "pid": 4242,
    "url": "http://127.0.0.1:8188",
    "address": "127.0.0.1:6379",
    "path": "/path/to/it",
}


def _fact(name: str, hint: Any) -> Any:  # noqa: PLR0911 - one line per kind of type
    origin, inner = get_origin(hint) or hint, get_args(hint)
    if origin in (Union, types.UnionType):
        return _fact(name, next(each for each in inner if each is not type(None)))
    if not isinstance(origin, type):
        return None
    named = _NAMED.get(name)
    if isinstance(named, origin) and origin is not object:
        return named
    if issubclass(origin, Enum):
        return next(iter(origin))
    if attrs.has(origin):
        return origin(**_facts(origin))
    if issubclass(origin, tuple | list | Sequence) and origin is not str:
        return (_fact(name.removesuffix("s"), inner[0] if inner else str),)
    if issubclass(origin, Mapping):
        return {"NAME": _fact("reason", inner[1])} if inner else {}
    simple: dict[type, Any] = {str: name.upper(), bool: True, int: 1, float: 1.0}
    if origin in simple:
        return simple[origin]
    if issubclass(origin, Path):
        return Path(f"/path/to/{name}")
    return None
