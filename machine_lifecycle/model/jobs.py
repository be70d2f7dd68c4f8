"""A job on its way through a worker: what is asked, how far it is, what came out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

__all__ = ["Job", "JobResult", "NodeFailure", "Output", "Progress"]


@attrs.frozen(kw_only=True)
class Job:
    """A job as a connector sees it.

    Attributes:
        id: Id in the queue.
        service_required: The capability that was asked for.
        payload: As submitted; for ComfyUI the graph, or an object with a ``workflow`` field.
        requirements: As submitted.
        attempt: 1 for the first run; more if earlier ones failed.
        claims: How often it was taken, this time included: more than ``attempt`` where a worker was
            lost, or handed it back. More than 1: an earlier run may have left something behind.
        timeout: Seconds the connector may take.
        ctx: The submitter's context, passed on untouched.
    """

    id: str
    service_required: str
    payload: Mapping[str, Any]
    requirements: Mapping[str, Any] = attrs.field(factory=dict)
    attempt: int = 1
    claims: int = 1
    timeout: float = 1800.0
    ctx: Mapping[str, Any] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class Preview:
    """A picture of what a job is about to make.

    Attributes:
        mime: MIME type.
        data: The bytes.
    """

    mime: str
    data: bytes = attrs.field(repr=lambda data: f"<{len(data)} bytes>")


@attrs.frozen(kw_only=True)
class Progress:
    """How far a job is.

    Attributes:
        preview: What it looks like now, if there is a newer picture of that.
        fraction: 0 to 1 over the whole job.
        message: What it does now, in words.
        step: Step within the running part, and
        steps: how many that has; 0 where unknown.
        service_free: The service is done with the job, and only what it made is still to be
            fetched: the worker may give it the next one meanwhile. Only for connectors of which
            several ``run`` may be under way.
    """

    fraction: float
    message: str = ""
    step: int = 0
    steps: int = 0
    service_free: bool = False
    preview: Preview | None = None


@attrs.frozen(kw_only=True)
class Output:
    """One file that a job made, with its bytes.

    Attributes:
        name: File name, without a folder.
        kind: ``image``, ``video``, ``audio``, ``text`` or ``binary``.
        mime: MIME type.
        data: The bytes.
        node: Id of the graph's node that made it, or empty.
        temporary: A preview, which the service may delete.
        reference: Where the service itself still holds it, as a URL path.
        stored: Where the site's store keeps it, as a URL; empty: it is not kept there.
    """

    name: str
    kind: str
    mime: str
    data: bytes = attrs.field(repr=lambda data: f"<{len(data)} bytes>")
    node: str = ""
    temporary: bool = False
    reference: str = ""
    stored: str = ""


@attrs.frozen(kw_only=True)
class NodeFailure:
    """What a graph's node said when it could not be run.

    Attributes:
        node: Its id.
        node_type: Its class.
        message: What it said.
        kind: Exception type, or the validation error's type.
    """

    node: str
    node_type: str
    message: str
    kind: str


@attrs.frozen(kw_only=True)
class JobResult:
    """What came out of a job that ended well.

    Attributes:
        outputs: Files, in the order of the graph's nodes.
        data: What else the service said, as JSON values.
        service_job_id: The service's own id of the run (ComfyUI's prompt id).
        warnings: Parts that were left out though the run ended well (ComfyUI's ``node_errors``
            of an accepted prompt).
    """

    outputs: tuple[Output, ...] = ()
    data: Mapping[str, Any] = attrs.field(factory=dict)
    service_job_id: str = ""
    warnings: tuple[NodeFailure, ...] = ()
