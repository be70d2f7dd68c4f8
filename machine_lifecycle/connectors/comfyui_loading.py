"""What a ComfyUI logs while it loads node packs, and what its pages show of them. Without I/O.

The lines are those of 0.3.12, 0.3.64 and 0.33.0; the last puts a coloured ``[INFO]`` in front of
them. Which version speaks is never asked: each line is known by itself.

**Who is believed.** The log, since it tells of the attempt itself, with two exceptions. A pack that
has no nodes to declare is logged as failed though it was imported ("Skip … due to the lack of …");
if the service serves its scripts, it is loaded. A pack of which the log says nothing is loaded if
``/object_info`` has nodes of it. Nodes of a pack that failed halfway don't make it loaded.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from urllib.parse import unquote

import attrs

from machine_lifecycle.model.packs import Pack, PackState

__all__ = ["LoadingLog", "module_pack", "packs_of", "served_packs"]

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_LEVEL = re.compile(r"^\[(?:DEBUG|DETAIL|INFO|WARNING|ERROR|CRITICAL)\] ?")
_TABLE = "Import times for custom nodes:"
_NO_PACKS = "Skipping loading of custom nodes"
_ENDS = ("Starting server", "To see the GUI go to:")
_ROW = re.compile(r"(?<!\S)(\d+\.\d) seconds( \(IMPORT FAILED\))?: (.+)$")
_TRACEBACK = "Traceback (most recent call last):"
_RAISED = re.compile(r"^([A-Za-z_][\w.]*)(?:: (.*))?$")
_IMPORT = re.compile(r"^Cannot import (.+?) module for custom nodes: ?(.*)$")
_ENTRY = re.compile(r"^Error while calling comfy_entrypoint in (.+?): ?(.*)$")
_ENTRY_WRONG = re.compile(r"^comfy_entrypoint in (.+) ((?:is not|did not return) .+), skipping\.$")
_SKIP = re.compile(r"^Skip (.+) module for custom nodes due to the lack of (.+?)(?: \(.*\))?\.$")
_LEFT_OUT = re.compile(r"^Skipping (.+) due to (disable_all_custom_nodes .+)$")
_BLOCKED = re.compile(r"^Blocked by policy: (.+)$")
_MODULE = re.compile(r"No module named '([^']+)'")
_OUR_FOLDERS = ("comfy_extras", "comfy_api_nodes")
"""ComfyUI loads its own further nodes by the same function; those are no packs."""
_LONGEST_REASON = 300


@attrs.define
class _Found:
    failed: bool = False
    seconds: float | None = None
    reason: str = ""
    nothing: bool = False
    """It was imported, but declares no nodes."""
    left_out: str = ""


class LoadingLog:
    """Reads the lines of one start of a ComfyUI, one at a time.

    Attributes:
        ended: Whether all has been told: what comes later in the log is of no interest.
        complete: Whether the service told of every pack that it tried.
    """

    def __init__(self) -> None:
        self.ended: bool = False
        self.complete: bool = False
        self.found: dict[str, _Found] = {}
        self._in_table = False
        self._raised: re.Match[str] | None = None
        self._awaits_error = False

    def feed(self, line: str) -> None:
        """Take one line, with or without its end."""
        text = _LEVEL.sub("", _COLOUR.sub("", line.rstrip("\r\n").rpartition("\r")[2]))
        if text.startswith(_ENDS):
            self.ended = True
        elif text.startswith((_TABLE, _NO_PACKS)):
            self.complete = True
            self._in_table = text.startswith(_TABLE)
        elif text.startswith(_TRACEBACK):
            self._awaits_error = True
        elif self._awaits_error and text[:1].strip():
            # The first line of a traceback that is not set in: the exception.
            self._awaits_error = False
            self._raised = _RAISED.match(text)
        elif self._in_table and (row := _ROW.search(text)):
            entry = self._entry(row[3])
            entry.seconds = float(row[1])
            entry.failed = entry.failed or bool(row[2])
        else:
            self._complaint(text)

    def _complaint(self, text: str) -> None:
        if match := _IMPORT.match(text):
            self._fail(match[1], self._in_words(match[2]))
        elif match := _ENTRY.match(text):
            self._fail(match[1], f"comfy_entrypoint: {match[2]}")
        elif match := _ENTRY_WRONG.match(text):
            self._fail(match[1], f"comfy_entrypoint {match[2]}")
        elif match := _SKIP.match(text):
            self._fail(match[1], f"it has no {match[2]}")
            self._entry(match[1]).nothing = True
        elif match := _LEFT_OUT.match(text) or _BLOCKED.match(text):
            self._entry(match[1]).left_out = text[0].lower() + text[1:]

    def _in_words(self, message: str) -> str:
        """The exception as Python says it: the complaint has its text alone, if there is one."""
        raised, self._raised = self._raised, None
        if raised is None or not message.startswith((raised[2] or "").rstrip()):
            return message or "its import raised an exception without a text"
        return f"{raised[1]}: {message}" if message else raised[1]

    def _fail(self, path: str, reason: str) -> None:
        entry = self._entry(path)
        entry.failed, entry.reason = True, reason.strip()[:_LONGEST_REASON]

    def _entry(self, path: str) -> _Found:
        return self.found.setdefault(path, _Found())


def _name(path: str) -> tuple[str, str]:
    """Name of a pack, and the folder it lies in, from its path on any system."""
    *_, parent, base = ("", *re.split(r"[\\/]", path.rstrip("\\/")))
    return base.removesuffix(".py"), parent


def module_pack(module: str) -> str:
    """The pack that a node's ``python_module`` names; empty for ComfyUI's own nodes."""
    prefix = "custom_nodes."
    return module.removeprefix(prefix) if module.startswith(prefix) else ""


def served_packs(addresses: Collection[str]) -> frozenset[str]:
    """Packs whose scripts are served, from the addresses that ``/extensions`` lists."""
    parts = (unquote(address).strip("/").split("/") for address in addresses)
    return frozenset(p[1] for p in parts if len(p) > 2 and p[0] == "extensions" and p[1] != "core")  # noqa: PLR2004 - extensions, pack, file


def packs_of(
    log: LoadingLog | None, nodes: Mapping[str, int], served: Collection[str] = ()
) -> tuple[Pack, ...]:
    """Every pack that is known of, by name; see above for who is believed.

    Args:
        log: What the service logged while it loaded them; ``None`` if nobody can read that.
        nodes: Number of node classes by pack, from ``/object_info``.
        served: Packs whose scripts are served.
    """
    packs: dict[str, Pack] = {name: Pack(name=name, nodes=count) for name, count in nodes.items()}
    for path, found in (log.found if log else {}).items():
        name, parent = _name(path)
        if parent in _OUR_FOLDERS:
            continue
        failed = found.failed and not (found.nothing and name in served)
        missing = _MODULE.search(found.reason) if failed else None
        state = PackState.FAILED if failed else PackState.LOADED
        absent = bool(found.left_out) and name not in nodes
        packs[name] = Pack(
            name=name,
            state=PackState.ABSENT if absent else state,
            nodes=nodes.get(name, 0),
            seconds=found.seconds,
            missing=missing[1] if missing else "",
            reason=found.left_out if absent else _reason(found) if failed else "",
        )
    return tuple(packs[name] for name in sorted(packs, key=str.lower))


def _reason(found: _Found) -> str:
    return found.reason or "its import failed; the log does not say why"
