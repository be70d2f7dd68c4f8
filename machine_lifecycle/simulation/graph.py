"""Checks a graph as ComfyUI does, and refuses it in the same words.

Pure: it knows node classes, the names of the input files, and the flavour.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import attrs

from machine_lifecycle.simulation.flavours import Flavour
from machine_lifecycle.simulation.nodes import NODES, NodeClass

__all__ = ["Verdict", "check_graph", "is_link", "refusal"]

_LINK_LENGTH = 2
_LISTED = 20  # longer lists of choices are left out of messages
_CONVERSIONS = {"INT": int, "FLOAT": float, "STRING": str, "BOOLEAN": bool}


@attrs.frozen(kw_only=True)
class Verdict:
    """What came of a check.

    Attributes:
        error: Why nothing can run; ``None`` when something can.
        outputs: Output nodes that will run.
        node_errors: What is wrong, by node.
    """

    error: Any = None
    outputs: tuple[str, ...] = ()
    node_errors: Any = attrs.field(factory=dict)

    def body(self) -> dict[str, Any]:
        """The answer of a refusal."""
        return {"error": self.error, "node_errors": self.node_errors}


def is_link(value: object) -> bool:
    """Whether an input's value is a link to another node."""
    return isinstance(value, list)


def refusal(kind: str, message: str, details: str = "", **extra: Any) -> dict[str, Any]:
    """An error object of a whole prompt."""
    return {"type": kind, "message": message, "details": details, "extra_info": extra}


def check_graph(graph: Any, flavour: Flavour, images: Collection[str]) -> Verdict:
    """Say which outputs of *graph* can run, and what is wrong with the others.

    Values that ComfyUI would convert are converted in place, as it does.
    """
    nothing: Any = [] if flavour.lists_for_nothing else {}
    outputs = []
    for node_id, node in graph.items() if isinstance(graph, dict) else ():
        error = _class_error(node_id, node, flavour)
        if error is not None:
            return Verdict(error=error, node_errors=nothing)
        if NODES[node["class_type"]].is_output:
            outputs.append(node_id)
    if not outputs:
        error = refusal("prompt_no_outputs", "Prompt has no outputs")
        return Verdict(error=error, node_errors=nothing)
    return _Check(graph, flavour, images).verdict(outputs)


def _class_error(node_id: str, node: Any, flavour: Flavour) -> dict[str, Any] | None:
    kind = node.get("class_type") if isinstance(node, dict) else None
    if kind in NODES:
        return None
    details = f"Node ID '#{node_id}'"
    if flavour.missing_node_type:
        message = (
            f"Node '{kind}' not found. The custom node may not be installed."
            if kind
            else f"Node 'ID #{node_id}' has no class_type. The workflow may be corrupted or a "
            "custom node is missing."
        )
        return refusal(
            "missing_node_type", message, details, node_id=node_id, class_type=kind, node_title=kind
        )
    message = (
        f"Cannot execute because node {kind} does not exist."
        if kind
        else "Cannot execute because a node is missing the class_type property."
    )
    return refusal("invalid_prompt", message, details)


def _input_error(
    kind: str, message: str, details: str, name: str, spec: tuple[Any, Any] | None, **extra: Any
) -> dict[str, Any]:
    info: dict[str, Any] = {"input_name": name}
    if spec is not None:
        info["input_config"] = [spec[0], dict(spec[1])]
    return {"type": kind, "message": message, "details": details, "extra_info": {**info, **extra}}


class _Check:
    """One check of one graph: remembers which nodes were looked at."""

    def __init__(self, graph: dict[str, Any], flavour: Flavour, images: Collection[str]) -> None:
        self._graph = graph
        self._flavour = flavour
        self._images = images
        self._seen: dict[str, tuple[bool, list[dict[str, Any]]]] = {}
        self._cycle: list[str] = []

    def verdict(self, outputs: list[str]) -> Verdict:
        good: list[str] = []
        reasons: list[dict[str, Any]] = []
        node_errors: dict[str, Any] = {}
        for output in outputs:
            valid, errors = self._output(output)
            if valid:
                good.append(output)
                continue
            reasons += errors
            self._note(node_errors, output)
        if good:
            return Verdict(outputs=tuple(good), node_errors=node_errors)
        details = "\n".join(f"{reason['message']}: {reason['details']}" for reason in reasons)
        error = refusal(
            "prompt_outputs_failed_validation", "Prompt outputs failed validation", details
        )
        return Verdict(error=error, node_errors=node_errors)

    def _output(self, output: str) -> tuple[bool, list[dict[str, Any]]]:
        try:
            return self._node(output, ())
        except (KeyError, IndexError, TypeError) as error:
            reason = {
                "type": "exception_during_validation",
                "message": "Exception when validating node",
                "details": str(error),
                "extra_info": {"exception_type": type(error).__name__, "traceback": []},
            }
            self._seen[output] = (False, [reason])
            return self._seen[output]

    def _note(self, node_errors: dict[str, Any], output: str) -> None:
        # Every node that failed so far is named with this output, also one that another output
        # brought up: so does ComfyUI.
        if self._flavour.names_cycles and self._cycle:
            names = [f"{node} ({self._graph[node]['class_type']})" for node in self._cycle]
            details = " -> ".join([*names, names[0]])
            for node in self._cycle:
                reason = {
                    "type": "dependency_cycle",
                    "message": "Dependency cycle detected",
                    "details": details,
                    "extra_info": {"node_id": node, "cycle_nodes": list(self._cycle)},
                }
                self._seen[node] = (False, [reason])
        for node, (valid, errors) in self._seen.items():
            if valid or not errors:
                continue
            kind = self._graph[node]["class_type"]
            entry = {"errors": errors, "dependent_outputs": [], "class_type": kind}
            node_errors.setdefault(node, entry)["dependent_outputs"].append(output)

    def _node(self, node_id: str, path: tuple[str, ...]) -> tuple[bool, list[dict[str, Any]]]:
        if node_id in self._seen:
            return self._seen[node_id]
        if node_id in path:
            self._cycle = list(path[path.index(node_id) :])
            return False, []
        node = self._graph[node_id]
        spec = NODES[node["class_type"]]
        inputs = node.get("inputs", {})
        errors: list[dict[str, Any]] = []
        sound = True
        for name, wanted in spec.required.items():
            if name not in inputs:
                errors.append(
                    _input_error(
                        "required_input_missing", "Required input is missing", name, name, None
                    )
                )
            elif is_link(inputs[name]):
                error, below = self._link(inputs[name], name, wanted, (*path, node_id))
                errors += [error] if error else []
                sound = sound and below
            else:
                error = self._value(inputs, name, wanted, spec)
                errors += [error] if error else []
        self._seen[node_id] = (sound and not errors, errors)
        return self._seen[node_id]

    def _link(
        self, link: list[Any], name: str, wanted: tuple[Any, Any], path: tuple[str, ...]
    ) -> tuple[dict[str, Any] | None, bool]:
        if len(link) != _LINK_LENGTH:
            message = "Bad linked input, must be a length-2 list of [node_id, slot_index]"
            return _input_error(
                "bad_linked_input", message, name, name, wanted, received_value=link
            ), True
        source, slot = link
        given = NODES[self._graph[source]["class_type"]].outputs[slot]
        if given != wanted[0]:
            return _input_error(
                "return_type_mismatch",
                "Return type mismatch between linked nodes",
                f"{name}, received_type({given}) mismatch input_type({wanted[0]})",
                name,
                wanted,
                received_type=given,
                linked_node=link,
            ), True
        return None, self._node(source, path)[0]

    def _value(
        self, inputs: dict[str, Any], name: str, wanted: tuple[Any, Any], spec: NodeClass
    ) -> dict[str, Any] | None:
        kind, limits = wanted
        if spec.name == "LoadImage":
            if str(inputs[name]).removesuffix(" [input]") in self._images:
                return None
            details = f"{name} - Invalid image file: {inputs[name]}"
            return _input_error(
                "custom_validation_failed", "Custom validation failed for node", details, name, None
            )
        if isinstance(kind, list):
            return _choice_error(inputs[name], name, wanted)
        try:
            value = inputs[name] = _CONVERSIONS.get(kind, str)(inputs[name])
        except (TypeError, ValueError) as error:
            return _input_error(
                "invalid_input_type",
                f"Failed to convert an input value to a {kind} value",
                f"{name}, {inputs[name]}, {error}",
                name,
                wanted,
                received_value=inputs[name],
                exception_message=str(error),
            )
        return _limit_error(value, name, wanted, limits)


def _choice_error(value: Any, name: str, wanted: tuple[Any, Any]) -> dict[str, Any] | None:
    choices = wanted[0]
    if value in choices:
        return None
    shown = str(choices) if len(choices) <= _LISTED else f"(list of length {len(choices)})"
    return _input_error(
        "value_not_in_list",
        "Value not in list",
        f"{name}: '{value}' not in {shown}",
        name,
        wanted,
        received_value=value,
    )


def _limit_error(
    value: Any, name: str, wanted: tuple[Any, Any], limits: Mapping[str, Any]
) -> dict[str, Any] | None:
    if "min" in limits and value < limits["min"]:
        kind, message = (
            "value_smaller_than_min",
            f"Value {value} smaller than min of {limits['min']}",
        )
    elif "max" in limits and value > limits["max"]:
        kind, message = "value_bigger_than_max", f"Value {value} bigger than max of {limits['max']}"
    else:
        return None
    return _input_error(kind, message, name, name, wanted, received_value=value)
