"""What came out of a job: files are in the site's store, travel in Redis if they are small, or are
referred to where the service holds them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Any

from machine_lifecycle.jobs.stores import digest, read
from machine_lifecycle.model.jobs import JobResult, NodeFailure, Output
from machine_lifecycle.system import redis_keys as keys

__all__ = ["KEPT", "SMALL", "fetch", "result_metadata", "small", "with_files"]

SMALL = 8 * 1024 * 1024
"""Bytes up to which a file travels in Redis."""
KEPT = 24 * 3600
"""Seconds for which Redis keeps it."""
_WARNING = ("node", "node_type", "message", "kind")


def small(job_id: str, outputs: tuple[Output, ...]) -> dict[str, bytes]:
    """The bytes of those that travel in Redis, by their keys."""
    return {
        keys.output(job_id, number): output.data
        for number, output in enumerate(outputs)
        if _travels(output)
    }


def _travels(output: Output) -> bool:
    return bool(output.data) and not output.stored and len(output.data) <= SMALL


def result_metadata(
    job_id: str, result: JobResult, *, service: str, milliseconds: int
) -> dict[str, Any]:
    """What is published of a result: everything but the bytes."""
    return {
        "success": True,
        "data": dict(result.data),
        "output_files": [
            {
                "filename": output.name,
                "path": output.stored or output.reference,
                "type": output.kind,
                "size_bytes": len(output.data),
                "mime_type": output.mime,
                "metadata": {
                    "node": output.node,
                    "temporary": output.temporary,
                    "sha256": digest(output.data),
                    "stored": output.stored,
                    "key": keys.output(job_id, number) if _travels(output) else "",
                },
            }
            for number, output in enumerate(result.outputs)
        ],
        "processing_time_ms": milliseconds,
        "service_metadata": {"service_type": service, "service_job_id": result.service_job_id},
        "warnings": [{name: getattr(part, name) for name in _WARNING} for part in result.warnings],
    }


async def fetch(
    get: Callable[[str], Awaitable[bytes | None]],
    result: Mapping[str, Any],
    told: Mapping[str, bytes] = MappingProxyType({}),
) -> tuple[Output, ...]:
    """The files of a result; those that can't be had from here come without bytes.

    Args:
        get: What a key of the queue's Redis holds.
        result: As the queue keeps it.
        told: Files that are here already, by their keys.

    Raises:
        OutputUnreadable: The site's store has lost one, or does not give it.
    """
    files = result.get("output_files")
    listed = files if isinstance(files, list) else ()
    entries = [(entry, _mapping(entry.get("metadata"))) for entry in listed if _mapping(entry)]
    kept = [key for _, facts in entries if (key := _text(facts, "key")) and key not in told]
    asked = await asyncio.gather(*map(get, kept)) if kept else ()
    small = {**told, **dict(zip(kept, asked, strict=True))}
    outputs = []
    for entry, facts in entries:
        key, stored = _text(facts, "key"), _text(facts, "stored")
        data = small.get(key)
        if stored and not key:
            data = await read(stored, _text(facts, "sha256"))
        outputs.append(
            Output(
                name=_text(entry, "filename"),
                kind=_text(entry, "type") or "binary",
                mime=_text(entry, "mime_type") or "application/octet-stream",
                data=data or b"",
                node=_text(facts, "node"),
                temporary=bool(facts.get("temporary")),
                reference=_text(entry, "path"),
                stored=stored,
            )
        )
    return tuple(outputs)


def with_files(result: Mapping[str, Any], outputs: tuple[Output, ...]) -> JobResult:
    """A result, as the queue keeps it, with its files; of what another party wrote, what is one."""
    data, said = _mapping(result.get("data")), _mapping(result.get("service_metadata"))
    parts = result.get("warnings")
    return JobResult(
        outputs=outputs,
        data=data,
        service_job_id=str(said.get("service_job_id", "")),
        warnings=tuple(
            NodeFailure(**{name: str(part.get(name, "")) for name in _WARNING})
            for part in (parts if isinstance(parts, list) else ())
            if isinstance(part, Mapping)
        ),
    )


def _text(facts: Mapping[str, Any], name: str) -> str:
    found = facts.get(name)
    return found if isinstance(found, str) else ""


def _mapping(found: Any) -> Mapping[str, Any]:
    return found if isinstance(found, Mapping) else {}
