"""What an earlier run of a job left at the service, so that nothing is done twice.

A worker may be lost while its prompt runs on, or after it ended and before that was written down.
Each prompt carries its job's id; who gets the job next finds the prompt by it, in the queue or in
the history, and takes what it made.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from machine_lifecycle.connectors.comfyui_pages import ComfyUIPages
from machine_lifecycle.connectors.comfyui_protocol import Ending, Payload, parse_history
from machine_lifecycle.connectors.comfyui_watch import SOCKET_SAVER

__all__ = ["find_earlier", "marked"]

_MARK = "machine_lifecycle_job"
_LATEST = 100
"""Entries of the history that are looked at, from its end; each holds a whole graph."""
_ROW_LENGTH = 4


def marked(payload: Payload, job_id: str) -> dict[str, Any]:
    """The prompt's extra data, with the job's id."""
    return {**payload.extra_data, _MARK: job_id}


async def find_earlier(pages: ComfyUIPages, job_id: str, graph: Mapping[str, Any]) -> str:
    """The id of a prompt of this job that waits, runs, or ended well; empty if there is none.

    One that failed or was stopped is none, nor is one with another graph, nor any whose pictures
    came over a socket that is gone.

    Raises:
        ServiceUnreachable: Nobody answers.
    """
    if any(_class(body) == SOCKET_SAVER for body in graph.values()):
        return ""
    # In this order: what ends between the two questions is found by the second.
    queue = await pages.queue()
    for key in ("queue_running", "queue_pending"):
        for row in queue.get(key, []) if isinstance(queue, dict) else []:
            if _is_of(row, job_id, graph):
                return str(row[1])
    history = await pages.latest(_LATEST)
    found = [
        prompt_id
        for prompt_id, row in _rows(history)
        if _is_of(row, job_id, graph) and _ended_well(history, prompt_id)
    ]
    return found[-1] if found else ""


def _ended_well(history: Any, prompt_id: str) -> bool:
    entry = parse_history(history, prompt_id)
    return entry is not None and entry.ending is Ending.SUCCESS


def _rows(history: Any) -> Iterator[tuple[str, Any]]:
    for prompt_id, entry in history.items() if isinstance(history, dict) else ():
        if isinstance(entry, dict):
            yield str(prompt_id), entry.get("prompt")


def _is_of(row: Any, job_id: str, graph: Mapping[str, Any]) -> bool:
    """Whether a row (number, id, graph, extra data, …) is this job's."""
    if not isinstance(row, list) or len(row) < _ROW_LENGTH:
        return False
    extra = row[3]
    return isinstance(extra, dict) and extra.get(_MARK) == job_id and row[2] == graph


def _class(body: Any) -> Any:
    return body.get("class_type") if isinstance(body, Mapping) else None
