"""What a running prompt tells: its frames, and the messages that its history keeps."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Collection, Mapping
from typing import Any

from machine_lifecycle.simulation import frames
from machine_lifecycle.simulation.flavours import Flavour

__all__ = ["Send", "Teller"]

Send = Callable[[Any, str | None], None]
"""Sends a frame to a socket; to all when the socket is ``None``. Called on the executing thread."""


class Teller:
    """Tells of one prompt, to the socket that submitted it."""

    def __init__(
        self,
        flavour: Flavour,
        send: Send,
        *,
        prompt_id: str,
        client: str | None,
        nodes: Collection[str],
    ) -> None:
        self.messages: list[list[Any]] = []
        """What the history keeps."""
        self.shown: dict[str, Mapping[str, Any]] = {}
        """What output nodes showed."""
        self.executed: list[str] = []
        """Nodes that did their work, and were not cached."""
        self.total = 1
        """Nodes that are not cached."""
        self._flavour = flavour
        self._send = send
        self._prompt_id = prompt_id
        self._client = client
        self._nodes = nodes
        self._begun = 0
        self._states: dict[str, dict[str, Any]] = {}
        self._told: dict[str, tuple[float, int]] = {}

    def due(self, node: str, value: int, limit: int) -> bool:
        """Whether a step is to be told: newer versions leave out those that come fast."""
        flavour = self._flavour
        now = time.monotonic()
        last = self._told.get(node)
        if last is not None and value < limit:
            done = (value - last[1]) * 100 / limit
            if now - last[0] < flavour.progress_interval or done < flavour.progress_percent:
                return False
        self._told[node] = (now, value)
        return True

    def step(self, node: str, value: int, limit: int) -> None:
        """A step within a node."""
        self._state(node, value, limit, "running")
        data = {"value": value, "max": limit, "prompt_id": self._prompt_id, "node": node}
        self._say("progress", data)

    def image(self, png: bytes) -> None:
        """A picture over the socket."""
        if self._client is not None:
            self._send(frames.binary_image(png), self._client)

    def begin(self, node: str, kind: str) -> None:
        """It is at a node."""
        if self._flavour.socket_prompts:
            self._begun += 1
            progress = {
                "current": self._begun,
                "total": self.total,
                "percentage": self._begun * 100 // self.total,
            }
            self.note("node_executing", {"node": node, "class_type": kind, "progress": progress})
        self._state(node, 0.0, 1.0, "running")
        where = {"node": node, "display_node": node, "prompt_id": self._prompt_id}
        self._say("executing", where)

    def finish(self, node: str, shown: Mapping[str, Any] | None) -> None:
        """A node is done, and may have something to show."""
        if shown is not None:
            self.shown[node] = shown
            self._say(
                "executed",
                {
                    "node": node,
                    "display_node": node,
                    "output": shown,
                    "prompt_id": self._prompt_id,
                },
            )
        self._state(node, 1.0, 1.0, "finished")

    def stop(self, node: str, kind: str) -> None:
        """It was interrupted; every socket hears that."""
        data = {"node_id": node, "node_type": kind, "executed": list(self.executed)}
        self.note("execution_interrupted", data, everyone=True)

    def fail(self, node: str, kind: str, inputs: Mapping[str, Any], error: Exception) -> None:
        """A node raised."""
        tail = "\n" if self._flavour.newline_after_message else ""
        name = type(error).__name__
        self.note(
            "execution_error",
            {
                "node_id": node,
                "node_type": kind,
                "executed": list(self.executed),
                "exception_message": f"{error}{tail}",
                "exception_type": f"torch.{name}" if name == "OutOfMemoryError" else name,
                "traceback": traceback.format_tb(error.__traceback__),
                "current_inputs": {key: [str(value)[:200]] for key, value in inputs.items()},
                "current_outputs": list(self._nodes),
            },
        )

    def note(self, kind: str, data: Mapping[str, Any], *, everyone: bool = False) -> None:
        """Say it, and keep it in the history."""
        kept = frames.stamped({**data, "prompt_id": self._prompt_id})
        self.messages.append([kind, kept])
        self._say(kind, kept, everyone=everyone)

    def _say(self, kind: str, data: Mapping[str, Any], *, everyone: bool = False) -> None:
        if everyone or self._client is not None:
            self._send(frames.frame(kind, data), None if everyone else self._client)

    def _state(self, node: str, value: float, limit: float, state: str) -> None:
        if self._flavour.progress_state:
            self._states[node] = frames.node_state(self._prompt_id, node, value, limit, state)
            told = frames.progress_state(self._prompt_id, self._states.values())
            self._say("progress_state", told["data"])
