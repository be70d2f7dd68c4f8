"""What is wrong with a graph, as far as it can be told without the service that runs it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from machine_lifecycle.connectors.comfyui_protocol import parse_payload
from machine_lifecycle.connectors.errors import BadPayload

__all__ = ["GraphChecker", "payload_problems"]

_LINK = 2
"""A link is the id of a node and the number of one of its outputs."""


def payload_problems(payload: Any) -> tuple[str, ...]:
    """Everything that is wrong with a payload; empty if nothing is.

    Which classes there are, and what they take, only the service knows.
    """
    try:
        graph = parse_payload(payload).graph
    except BadPayload as error:
        return (error.problem,)
    return tuple(problem for node, body in graph.items() for problem in _of_node(graph, node, body))


def _of_node(graph: Mapping[str, Any], node: str, body: Mapping[str, Any]) -> Iterator[str]:
    kind = body.get("class_type")
    if not isinstance(kind, str) or not kind:
        yield f"node {node} has no class_type"
    inputs = body.get("inputs", {})
    if not isinstance(inputs, Mapping):
        yield f"the inputs of node {node} are no object"
        return
    for name, value in inputs.items():
        # Its form alone makes a list a link; the service takes it for one, too.
        linked = isinstance(value, list) and len(value) == _LINK and isinstance(value[0], str)
        if linked and isinstance(value[1], int) and value[0] not in graph:
            yield f"{name} of node {node} comes from node {value[0]}, which is not there"


class GraphChecker:
    """Knows bad graphs; see ``model.warming.PayloadChecker``."""

    @staticmethod
    def payload_problems(payload: Any) -> tuple[str, ...]:
        """See ``payload_problems`` of this module."""
        return payload_problems(payload)
