"""What goes into ComfyUI's pages, and what they answer. Without I/O.

The functions read what ``/prompt``, ``/history`` and ``/queue`` answer, in the shapes of all
versions since 0.3.12 and of the fork. What comes over the socket is read by ``comfyui_events``,
and followed by ``comfyui_run``.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from pathlib import PurePosixPath
from typing import Any

import attrs

from machine_lifecycle.connectors import comfyui_events as events
from machine_lifecycle.connectors.comfyui_run import Ending
from machine_lifecycle.connectors.errors import BadPayload, PromptRejected
from machine_lifecycle.model.jobs import NodeFailure

__all__ = [
    "Accepted",
    "Ending",
    "FileReference",
    "HistoryEntry",
    "Payload",
    "Place",
    "entry_of_success",
    "is_out_of_memory",
    "parse_history",
    "parse_payload",
    "parse_prompt_answer",
    "parse_queue",
]

_SHOWN_TEXT = 300  # characters of an answer that is no JSON
_OUT_OF_MEMORY_KINDS = ("OutOfMemoryError", "MemoryError")
_OUT_OF_MEMORY_WORDS = ("out of memory", "can't allocate memory", "cannot allocate memory")


class Place(Enum):
    """Where the service has a prompt."""

    RUNNING = "running"
    WAITING = "waiting"
    NOWHERE = "nowhere"


@attrs.frozen(kw_only=True)
class Payload:
    """What a job asks ComfyUI to run.

    Attributes:
        graph: Nodes by id, in API form.
        extra_data: Passed on; comes back in the history.
        images: Files to upload first: name, and base64.
    """

    graph: Mapping[str, Any]
    extra_data: Mapping[str, Any] = attrs.field(factory=dict)
    images: tuple[tuple[str, str], ...] = ()


@attrs.frozen(kw_only=True)
class Accepted:
    """The service took a prompt.

    Attributes:
        prompt_id: The id it has there, which need not be ours.
        warnings: Nodes that are left out though the rest runs.
    """

    prompt_id: str
    warnings: tuple[NodeFailure, ...] = ()


@attrs.frozen(kw_only=True)
class FileReference:
    """A file at the service.

    Attributes:
        filename: Its name.
        subfolder: Folder within that of its type.
        type: ``output``, ``temp`` or ``input``.
        node: The node that made it.
        key: What the node calls it: ``images``, ``gifs``, ``audio`` and others.
        form: MIME type if the node said one.
    """

    filename: str
    subfolder: str = ""
    type: str = "output"
    node: str = ""
    key: str = ""
    form: str = ""

    @property
    def name(self) -> str:
        """The name without folders, also where a node put some into it."""
        return PurePosixPath(self.filename.replace("\\", "/")).name


@attrs.frozen(kw_only=True)
class HistoryEntry:
    """What the history says of a prompt that ended.

    Attributes:
        ending: How.
        files: What it made, in the order of the graph's nodes.
        data: What else its nodes showed: by node, then by key.
        failure: Which node raised, and what.
        traceback: The last lines.
        node: The node at which it was interrupted.
    """

    ending: Ending
    files: tuple[FileReference, ...] = ()
    data: Mapping[str, Any] = attrs.field(factory=dict)
    failure: NodeFailure | None = None
    traceback: tuple[str, ...] = ()
    node: str = ""


def parse_payload(payload: Any) -> Payload:
    """The graph in a job's payload: by itself, or in its field ``workflow`` or ``prompt``.

    Raises:
        BadPayload: It is none, or its images are of no use.
    """
    if not isinstance(payload, Mapping):
        raise BadPayload(problem=f"it is no object but {type(payload).__name__}")
    wrapped = next((name for name in ("workflow", "prompt") if name in payload), None)
    graph = payload[wrapped] if wrapped else payload
    if isinstance(graph, Mapping) and wrapped == "workflow" and "prompt" in graph:
        graph = graph["prompt"]
    if not isinstance(graph, Mapping) or not graph:
        raise BadPayload(problem=f"{wrapped or 'it'} is no graph: an object of nodes by id")
    if isinstance(graph.get("nodes"), list):
        raise BadPayload(problem="the graph is in the editor's form; export it in API form")
    for node, body in graph.items():
        if not isinstance(body, Mapping):
            raise BadPayload(problem=f"node {node} is no object")
    extra = payload.get("extra_data") if wrapped else None
    if extra is not None and not isinstance(extra, Mapping):
        raise BadPayload(problem="extra_data is no object")
    images = payload.get("images", ()) if wrapped else ()
    return Payload(graph=graph, extra_data=extra or {}, images=_images(images))


def _images(images: Any) -> tuple[tuple[str, str], ...]:
    if not isinstance(images, list | tuple):
        raise BadPayload(problem="images is no list")
    pairs = []
    for image in images:
        name, data = (
            (image.get("name"), image.get("data")) if isinstance(image, Mapping) else (None, None)
        )
        if not isinstance(name, str) or not name or not isinstance(data, str):
            raise BadPayload(problem="each of images needs a name, and its bytes in base64 as data")
        # Data URLs are what browsers give.
        pairs.append((name, data.partition("base64,")[2] if data.startswith("data:") else data))
    return tuple(pairs)


def parse_prompt_answer(status: int, answer: Any) -> Accepted:
    """What ``POST /prompt`` answered.

    Args:
        status: HTTP status.
        answer: The body's JSON value, or its text where it is none.

    Raises:
        PromptRejected: The service did not take the prompt.
    """
    body: Mapping[str, Any] = answer if isinstance(answer, dict) else {}
    failures = _node_errors(body.get("node_errors"))
    if status == 200 and body.get("prompt_id"):  # noqa: PLR2004  # HTTP's OK
        return Accepted(prompt_id=str(body["prompt_id"]), warnings=failures)
    error = body.get("error")
    if isinstance(error, dict):
        kind = str(error.get("type", ""))
        details = str(error.get("details") or "")
        # Node errors say the details again, with the node.
        message = str(error.get("message", ""))
        if details and not failures:
            message = f"{message} ({details})"
    else:
        kind = ""
        message = str(error or "") if body else str(answer)[:_SHOWN_TEXT].strip()
    raise PromptRejected(status=status, kind=kind, message=message, failures=failures)


def _node_errors(value: Any) -> tuple[NodeFailure, ...]:
    if not isinstance(value, dict):
        return ()  # a list when empty, with the fork
    failures = []
    for node, entry in value.items():
        found = entry.get("errors") if isinstance(entry, dict) else None
        for error in found if isinstance(found, list) else []:
            if not isinstance(error, dict):
                continue
            details = str(error.get("details") or "")
            message = str(error.get("message", ""))
            failures.append(
                NodeFailure(
                    node=str(node),
                    node_type=str(entry.get("class_type", "")),
                    message=f"{message}: {details}" if details else message,
                    kind=str(error.get("type", "")),
                )
            )
    return tuple(failures)


def parse_history(answer: Any, prompt_id: str) -> HistoryEntry | None:
    """What ``/history/{id}`` says; ``None`` while it knows nothing of the prompt."""
    entry = answer.get(prompt_id) if isinstance(answer, dict) else None
    if not isinstance(entry, dict):
        return None
    status = entry.get("status")
    ending, failure, traceback, node = _status(status if isinstance(status, dict) else {})
    row = entry.get("prompt")
    graph = row[2] if isinstance(row, list) and len(row) > 2 else {}  # noqa: PLR2004  # its place
    files, data = _outputs(entry.get("outputs"), list(graph) if isinstance(graph, dict) else [])
    return HistoryEntry(
        ending=ending, files=files, data=data, failure=failure, traceback=traceback, node=node
    )


def entry_of_success(
    shown: Mapping[str, Mapping[str, Any]], graph: Mapping[str, Any]
) -> HistoryEntry:
    """What the history will say of a run that ended well.

    Args:
        shown: What its nodes showed, as ``executed`` told it.
        graph: Its nodes.
    """
    files, data = _outputs(shown, list(graph))
    return HistoryEntry(ending=Ending.SUCCESS, files=files, data=data)


def _status(
    status: Mapping[str, Any],
) -> tuple[Ending, NodeFailure | None, tuple[str, ...], str]:
    messages = status.get("messages")
    last: dict[str, Any] = {}
    for message in messages if isinstance(messages, list) else []:
        if isinstance(message, list) and len(message) == 2 and isinstance(message[1], dict):  # noqa: PLR2004
            last[str(message[0])] = message[1]
    # "error" covers interruptions: only the messages tell the two apart.
    if "execution_interrupted" in last:
        return Ending.INTERRUPTED, None, (), str(last["execution_interrupted"].get("node_id", ""))
    if "execution_error" in last:
        data = last["execution_error"]
        failure = events.failure_of(data)
        return Ending.ERROR, failure, events.traceback_of(data), failure.node
    if status.get("status_str") == "error":
        return Ending.ERROR, None, (), ""
    return Ending.SUCCESS, None, (), ""


def _outputs(
    outputs: Any, order: list[str]
) -> tuple[tuple[FileReference, ...], dict[str, dict[str, Any]]]:
    if not isinstance(outputs, dict):
        return (), {}
    places = {node: place for place, node in enumerate(order)}
    files: list[FileReference] = []
    data: dict[str, dict[str, Any]] = {}
    for node in sorted(outputs, key=lambda node: places.get(node, len(places))):
        shown = outputs[node]
        for key, items in shown.items() if isinstance(shown, dict) else ():
            listed = items if isinstance(items, list) else []
            found = [_file(item, node, key) for item in listed]
            files += [file for file in found if file is not None]
            rest = [item for item, file in zip(listed, found, strict=True) if file is None]
            if rest or not isinstance(items, list):
                data.setdefault(node, {})[key] = rest or items
    return tuple(files), data


def _file(item: Any, node: str, key: str) -> FileReference | None:
    if not isinstance(item, dict) or not isinstance(item.get("filename"), str):
        return None
    return FileReference(
        filename=item["filename"],
        subfolder=str(item.get("subfolder") or ""),
        type=str(item.get("type") or "output"),
        node=node,
        key=key,
        form=str(item.get("format") or ""),
    )


def parse_queue(answer: Any, prompt_id: str) -> Place:
    """Where ``/queue`` has a prompt."""
    for key, place in (("queue_running", Place.RUNNING), ("queue_pending", Place.WAITING)):
        rows = answer.get(key) if isinstance(answer, dict) else None
        for row in rows if isinstance(rows, list) else []:
            if isinstance(row, list) and len(row) > 1 and row[1] == prompt_id:
                return place
    return Place.NOWHERE


def is_out_of_memory(failure: NodeFailure) -> bool:
    """Whether a node failed for want of memory, of the GPU or the machine."""
    kind = failure.kind.rpartition(".")[2]
    words = failure.message.lower()
    return kind in _OUT_OF_MEMORY_KINDS or any(word in words for word in _OUT_OF_MEMORY_WORDS)
