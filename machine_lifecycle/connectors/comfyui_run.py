"""One prompt's way through ComfyUI: fed with events, says how far it is and how it ended.

Without I/O.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any

from machine_lifecycle.connectors import comfyui_events as events
from machine_lifecycle.model.jobs import NodeFailure, Progress

__all__ = ["Ending", "PromptRun"]


class Ending(Enum):
    """How a run ended."""

    SUCCESS = "success"
    ERROR = "error"
    INTERRUPTED = "interrupted"


class PromptRun:
    """One prompt: fed with events of any prompt, keeps to its own.

    The fraction is that of nodes done, with the part of the node that runs, over all nodes of
    the graph. It never falls.
    """

    def __init__(self, prompt_id: str, graph: Mapping[str, Any]) -> None:
        self.prompt_id = prompt_id
        self.started: bool = False
        self.finished: bool = False
        """Whether the last event was seen: then the history has the run."""
        self.ending: Ending | None = None
        self.failure: NodeFailure | None = None
        self.traceback: tuple[str, ...] = ()
        self.node: str = ""
        """The node it is at, or was when it ended."""
        self._types = {
            str(node): str(body.get("class_type", "")) if isinstance(body, Mapping) else ""
            for node, body in graph.items()
        }
        self._nodes = frozenset(self._types)
        self._done: set[str] = set()
        self._cached: set[str] = set()
        self._whole = False
        self._shown: dict[str, Mapping[str, Any]] = {}
        self._parts: dict[str, tuple[float, float]] = {}
        self._fraction = 0.0

    def feed(self, event: events.Event) -> bool:
        """Take an event; whether it was about this prompt."""
        if not isinstance(event, events.PromptEvent) or event.prompt_id != self.prompt_id:
            return False
        if self.finished:
            return True
        self.started = True
        self._take(event)
        return True

    @property
    def progress(self) -> Progress:
        """How far it is."""
        parts = (value / limit for value, limit in self._parts.values() if limit > 0)
        share = sum(min(1.0, max(0.0, part)) for part in parts)
        known = len(self._done & self._nodes) + share
        over = known / max(1, len(self._nodes))
        if self.ending is Ending.SUCCESS:
            over = 1.0
        self._fraction = max(self._fraction, min(1.0, over))
        value, limit = self._parts.get(self.node, (0.0, 0.0))
        return Progress(
            fraction=self._fraction, message=self._message(), step=int(value), steps=int(limit)
        )

    def _message(self) -> str:
        if not self.started:
            return "waiting"
        kind = self.node_type
        named = f"node {self.node} ({kind})" if kind else f"node {self.node}"
        return named if self.node else "starting"

    @property
    def shown(self) -> Mapping[str, Mapping[str, Any]] | None:
        """What its nodes showed, of a run that ended well; ``None`` where only the history has all
        of it. Of a node within the graph that was cached nothing is said.
        """
        known = self._whole and self.ending is Ending.SUCCESS and self._cached <= set(self._shown)
        return self._shown if known else None

    def missed(self) -> None:
        """Some of its events may not have come."""
        self._whole = False

    @property
    def node_type(self) -> str:
        """The class of the node it is at."""
        return self._types.get(self.node, "")

    def _take(self, event: events.PromptEvent) -> None:
        match event:
            case events.Executing(node=None):
                self.finished = True
            case events.Executing(node=str(node), node_type=kind):
                self._enter(node)
                self._types[node] = kind or self._types.get(node, "")
            case events.Cached(nodes=nodes):
                self._done.update(nodes)
                self._cached.update(nodes)
            case events.StepDone():
                self._part(event.node or self.node, event.value, event.limit)
            case events.NodeStates():
                for node in event.finished:
                    self._leave(node)
                for node, (value, limit) in event.running.items():
                    self._part(node, value, limit)
            case events.Executed(node=node, output=output):
                self._shown[node] = output
                self._leave(node)
            case _:
                self._end(event)

    def _end(self, event: events.PromptEvent) -> None:
        match event:
            case events.Started():
                self._whole = True
            case events.Succeeded():
                self.ending = Ending.SUCCESS
            case events.Failed(failure=failure, traceback=traceback):
                self.ending = Ending.ERROR
                self.failure, self.traceback = failure, traceback
                self.node = failure.node or self.node
            case events.Interrupted(node=node):
                self.ending = Ending.INTERRUPTED
                self.node = node or self.node
            case _:
                pass  # that it started is noted for every event

    def _part(self, node: str, value: float, limit: float) -> None:
        if node not in self._done:
            self._parts[node] = (value, limit)

    def _enter(self, node: str) -> None:
        # One node runs at a time: being at another means that this one is done.
        if self.node and self.node != node:
            self._leave(self.node)
        self.node = node

    def _leave(self, node: str) -> None:
        self._done.add(node)
        self._parts.pop(node, None)
