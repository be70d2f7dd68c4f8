"""The ``WORKERS`` grammar: ``type[:count|auto]``, separated by commas."""

from __future__ import annotations

import re

from machine_lifecycle.config.errors import WorkersInvalid, raise_problems
from machine_lifecycle.model.catalogue import AUTO, WorkerRequest

__all__ = ["MAX_COUNT", "parse_workers"]

MAX_COUNT = 1024
"""More than any machine runs; catches a port number written as a count."""

_ATTEMPT_AT_COUNT = re.compile(r"[-+]?\d.*|[-+]")


def parse_workers(text: str) -> tuple[WorkerRequest, ...]:
    """Read the text of ``WORKERS``.

    The part after the last colon is a count only if it is digits or ``auto``; so
    ``package.module:SERVICE`` and ``package.module:SERVICE:2`` name a definition. Spaces around
    items and empty items are ignored; a missing count is 1; one type twice is added up.

    Raises:
        Problems: Every item that can't be read.
    """
    requests: list[WorkerRequest] = []
    errors: list[WorkersInvalid] = []
    items = [item.strip() for item in text.split(",")]
    for position, item in enumerate([item for item in items if item], 1):
        read = _parse_item(item)
        if isinstance(read, WorkerRequest):
            requests.append(read)
        else:
            problem, example = read
            errors.append(
                WorkersInvalid(item=item, position=position, problem=problem, example=example)
            )
    if not requests and not errors:
        errors.append(WorkersInvalid(item=text, position=0, problem="nothing is asked for"))
    raise_problems("WORKERS", errors)
    return _added_up(requests)


def _parse_item(item: str) -> WorkerRequest | tuple[str, str]:
    name, colon, last = (part.strip() for part in item.rpartition(":"))
    if not colon:
        name, last = last, "1"
    elif last.lower() != AUTO and not (last.isascii() and last.isdigit()):
        if not last or _ATTEMPT_AT_COUNT.fullmatch(last):
            return (
                f"the count `{last}` is neither a number from 1 nor `auto`",
                f"{name or 'comfyui'}:1",
            )
        name, last = item, "1"
    if not name or any(character.isspace() for character in name) or name.startswith(":"):
        return "the type is missing or has a space in it", "comfyui:1"
    if name.rpartition(":")[2].isdigit():
        return "there is more than one count", f"{name.partition(':')[0]}:{last}"
    if last.lower() == AUTO:
        return WorkerRequest(worker=name, count=AUTO)
    if not 1 <= int(last) <= MAX_COUNT:
        return f"the count must be 1 to {MAX_COUNT}", f"{name}:1"
    return WorkerRequest(worker=name, count=int(last))


def _added_up(requests: list[WorkerRequest]) -> tuple[WorkerRequest, ...]:
    """Join requests for one type. ``auto`` beside a number: the larger promise can't be known
    before the hardware is, so ``auto`` wins.
    """
    joined: dict[str, int | str] = {}
    for request in requests:
        before = joined.get(request.worker, 0)
        both_counts = isinstance(before, int) and isinstance(request.count, int)
        joined[request.worker] = int(before) + int(request.count) if both_counts else AUTO
    return tuple(WorkerRequest(worker=name, count=count) for name, count in joined.items())
