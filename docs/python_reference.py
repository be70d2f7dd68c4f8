"""The page of the Python names: made from their signatures and docstrings."""

from __future__ import annotations

import importlib
import inspect
import itertools
import re
from collections.abc import Iterator
from enum import Enum
from typing import Any

import attrs

import machine_lifecycle
from machine_lifecycle.lifecycle.events import Event

__all__ = ["python_page"]

SUBJECTS: dict[str, tuple[str, ...]] = {
    "A machine": ("Machine", "Settings", "LoadedSettings", "load_settings"),
    "How it does": (
        *("MachineState", "Phase", "Trigger", "StatusReport", "WorkerStatus", "Condition"),
        *("Hardware", "Gpu", "GpuSource", "Loaded", "Pack", "PackState"),
    ),
    "Hooks": ("Event", "GateDefinition", "GatePoint", "GateRefused", "Passage"),
    "Jobs": ("JobQueue", "open_job_queue", "JobRecord", "JobEvent"),
    "A service": (
        *("ServiceDefinition", "Instance", "Binding", "Ports", "Command"),
        *("HttpReady", "WebSocketReady", "TcpReady", "LogReady", "CommandReady", "NotifyReady"),
        *("RestartPolicy", "StopPolicy"),
    ),
    "Its connector": (
        *("Connector", "HttpConnector", "HttpAnswer", "Job", "JobResult", "Output", "Progress"),
        *("Preview", "Probe"),
    ),
    "Its installer": (
        *("Installer", "PipInstaller", "GitInstaller", "InstallContext", "Step", "StepContext"),
    ),
    "Errors": ("LifecycleError", "ConfigurationError", "Problems", "Remedy"),
}
"""What belongs together. Events have a page of their own; choices are listed with the settings."""
_SECTION = re.compile(r"^(Attributes|Args|Returns|Yields|Raises|Example)::?$", re.MULTILINE)
_INTRODUCTION = (
    "`from machine_lifecycle import NAME`. Each is typed; importing the package loads nothing "
    "heavy. Events are on [a page of their own](events.md), and so are the fields of "
    "`Settings`: [Settings](settings.md)."
)
_WIDTH = 100
_NAMES = re.compile(r"^([\w, ]+): ")
_MODULES = re.compile(r"(?:[a-z_]+\.)+(?=[A-Za-z_])")


def tidy(doc: str | None) -> str:
    """A docstring as Markdown."""
    text = inspect.cleandoc(doc or "").replace("``", "`")
    pieces = _SECTION.split(text)
    lines = [_code(pieces[0].strip())]
    for heading, body in zip(pieces[1::2], pieces[2::2], strict=True):
        if heading == "Example":
            lines += ["", "```python", inspect.cleandoc(body.rstrip()), "```"]
            continue
        entries = re.split(r"^ {4}(?=\S)", body, flags=re.MULTILINE)[1:]
        shown = (" ".join(entry.split()) for entry in entries)
        lines += [f"\n{heading}:"] if heading in {"Raises", "Returns", "Yields"} else []
        lines += ["", *(f"- {_NAMES.sub(_named, entry)}" for entry in shown)]
    return "\n".join(lines).strip()


def _named(found: re.Match[str]) -> str:
    return ", ".join(f"`{name.strip()}`" for name in found[1].split(",")) + ": "


def _code(text: str) -> str:
    """Indented code after a colon becomes a block."""
    return re.sub(
        r"::\n\n((?: {4}.*(?:\n|$)|\n)+)",
        lambda found: f":\n\n```python\n{inspect.cleandoc(found[1])}\n```\n",
        text,
    )


def signature(name: str, made: Any) -> str:
    """As it is called, without the modules of its types."""
    told = inspect.signature(made)
    words: list[str] = []
    starred = False
    for one in told.parameters.values():
        if one.name in {"self", "cls"}:
            continue
        if one.kind is one.KEYWORD_ONLY and not starred:
            words.append("*")
            starred = True
        kind = "" if one.annotation is one.empty else f": {_type(one.annotation)}"
        default = "" if one.default is one.empty else f" = {_default(one.default)}"
        words.append(f"{one.name}{kind}{default}")
    answer = told.return_annotation
    back = f" -> {_type(answer)}" if answer not in (told.empty, None, "None") else ""
    return f"{name}({', '.join(words)}){back}"


def _type(annotation: Any) -> str:
    text = annotation if isinstance(annotation, str) else annotation.__name__
    return _MODULES.sub("", text)


def _default(value: Any) -> str:
    if inspect.isfunction(value) or value is attrs.NOTHING:
        return "…"
    if isinstance(value, Enum):
        return f"{type(value).__name__}.{value.name}"
    if inspect.isclass(value):
        return value.__name__
    return f"{type(value).__name__}()" if attrs.has(type(value)) else repr(value)


def members(kind: type) -> Iterator[str]:
    """Methods and properties that are its own, then those of classes of ours that are not in this
    reference themselves; or an enumeration's words.
    """
    if issubclass(kind, Enum):
        yield ", ".join(f"`{one.name}` = `{one.value}`" for one in kind)
        return
    inherited = [base for base in kind.__mro__[1:] if _is_hidden(base)]
    for name, found in itertools.chain(*(vars(each).items() for each in (kind, *inherited))):
        if name.startswith("_") or name in {"to_wire", "from_wire"}:
            continue
        inner = found.__func__ if isinstance(found, classmethod | staticmethod) else found
        if isinstance(inner, property):
            yield f"**`{name}`**: {tidy(inner.__doc__)}"
        elif inspect.isfunction(inner):
            waits = "await " if inspect.iscoroutinefunction(inner) else ""
            yield f"**`{waits}{signature(name, inner)}`**\n\n{tidy(inner.__doc__)}"


def _is_hidden(kind: type) -> bool:
    ours = kind.__module__.partition(".")[0] == machine_lifecycle.__name__
    return ours and kind.__name__ not in machine_lifecycle.__all__


def entry(name: str, found: Any) -> Iterator[str]:
    """One name: how it is made, what it is, what it can."""
    yield f"### {name}"
    is_class = inspect.isclass(found)
    whole = found is not machine_lifecycle.Settings
    if not is_class or (attrs.has(found) and whole):
        yield f"```python\n{_folded(signature(name, found))}\n```"
    yield tidy(found.__doc__)
    if is_class and whole:
        yield from members(found)


def _folded(line: str) -> str:
    """A long signature with a line for each parameter."""
    if len(line) <= _WIDTH:
        return line
    head, _, rest = line.partition("(")
    inner, _, back = rest.rpartition(")")
    parts = re.split(r", (?=\*|\w+[:=])", inner)
    return "\n".join((f"{head}(", *(f"    {part}," for part in parts), f"){back}"))


def python_page() -> str:
    """Every public name that is not an event or a choice of the settings."""
    lines = [
        "# Python",
        "<!-- Generated by `python3 dev.py docs`; edit the code it comes from. -->",
        _INTRODUCTION,
    ]
    left = {
        name
        for name in machine_lifecycle.__all__
        if not _is_event(getattr(machine_lifecycle, name)) and not _is_choice(name)
    }
    for subject, names in SUBJECTS.items():
        lines.append(f"## {subject}")
        for name in names:
            left.discard(name)
            lines += entry(name, getattr(machine_lifecycle, name))
    if left:
        raise SystemExit(f"public names under no heading: {', '.join(sorted(left))}")
    kit = importlib.import_module("machine_lifecycle.testing")
    lines += ["## Checks of your own parts", "`from machine_lifecycle.testing import NAME`."]
    for name in kit.__all__:
        lines += entry(name, getattr(kit, name))
    return "\n\n".join(line for line in lines if line) + "\n"


def _is_event(found: Any) -> bool:
    return inspect.isclass(found) and issubclass(found, Event) and found is not Event


def _is_choice(name: str) -> bool:
    choices = {"GpuMode", "LogFormat", "OnFailed", "RedisMode", "BundleMode", "LockMode"}
    return name in {*choices, "CustomerIsolation"}
