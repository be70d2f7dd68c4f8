"""The wire form of what machines tell, pinned by files: ``python -m tests.support.wire`` writes
them anew, and refuses to where a reader's program would break.
"""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

import attrs

from machine_lifecycle.lifecycle.events import EVENTS
from machine_lifecycle.model.status import StatusReport
from machine_lifecycle.model.wire import to_json_value

__all__ = ["FOLDER", "breaks", "wanted"]

FOLDER = Path(__file__).parents[1] / "data" / "wire"
_SIMPLE: dict[Any, Any] = {int: 1, float: 1.5, bool: True, Any: "anything"}


def wanted() -> dict[str, Any]:
    """By name of the file: each event and the report with every field set, and all words that
    stand for something.
    """
    words: dict[str, list[Any]] = {}
    forms = {kind.kind: _sample(kind, "", words).to_wire() for kind in EVENTS}
    forms["status"] = to_json_value(_sample(StatusReport, "", words))
    return {**forms, "words": dict(sorted(words.items()))}


def breaks(old: Any, new: Any, place: str = "") -> list[str]:
    """What was there and is gone, or is of another type: readers may rely on it."""
    if isinstance(old, dict) and isinstance(new, dict):
        gone = [f"{place}.{name} is gone" for name in old if name not in new]
        both = [name for name in old if name in new]
        return gone + [
            found for name in both for found in breaks(old[name], new[name], f"{place}.{name}")
        ]
    if isinstance(old, list) and isinstance(new, list):
        if all(isinstance(each, str) for each in old):
            return [f"{place}: {each!r} is gone" for each in old if each not in new]
        pairs = zip(old, new, strict=False)
        return [found for one, other in pairs for found in breaks(one, other, f"{place}[]")]
    return [] if type(old) is type(new) else [f"{place} was {old!r} and is {new!r}"]


def _sample(  # noqa: PLR0911 - one line per kind of type
    hint: Any, name: str, words: dict[str, list[Any]]
) -> Any:
    """A value of a type, made up from it and from the field's name."""
    origin, inner = get_origin(hint) or hint, get_args(hint)
    if origin in (Union, types.UnionType):
        return _sample(next(each for each in inner if each is not type(None)), name, words)
    if origin in _SIMPLE:
        return _SIMPLE[origin]
    if origin is tuple:
        several = inner[:1] if inner[-1] is Ellipsis else inner
        return tuple(_sample(each, name, words) for each in several)
    if isinstance(origin, type) and issubclass(origin, Enum):
        words[origin.__name__] = [member.value for member in origin]
        return next(iter(origin))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {"key": "value"}
    if attrs.has(origin):
        hints = get_type_hints(origin)
        facts = {
            field.alias: _sample(hints[field.name], field.name, words)
            for field in attrs.fields(origin)
            if field.init
        }
        return origin(**facts)
    return Path(f"/{name}") if origin is Path else name


def _main() -> int:
    FOLDER.mkdir(parents=True, exist_ok=True)
    forms = wanted()
    broken = []
    for path in sorted(FOLDER.glob("*.json")):
        known = json.loads(path.read_text(encoding="utf-8"))
        broken += breaks(known, forms.get(path.stem, {}), path.stem)
    if broken and sys.argv[1:] != ["--break"]:
        sys.stderr.write("\n".join([*broken, "nothing is written; to break readers: --break\n"]))
        return 1
    for name, form in forms.items():
        text = json.dumps(form, indent=2, ensure_ascii=False)
        (FOLDER / f"{name}.json").write_text(f"{text}\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(_main())
