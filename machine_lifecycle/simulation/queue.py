"""The queue of prompts and the history of those that ended. Safe between threads."""

from __future__ import annotations

import heapq
import itertools
import threading
from collections.abc import Callable, Collection
from typing import Any

import attrs

__all__ = ["Prompt", "PromptQueue"]

_KEPT = 10_000  # as many as ComfyUI keeps in its history


@attrs.frozen(kw_only=True)
class Prompt:
    """A prompt that was accepted.

    Attributes:
        number: Its place: lower runs earlier.
        id: Its id.
        graph: Nodes by id.
        extra: The client's data, and its socket id.
        outputs: Output nodes that run.
    """

    number: float
    id: str
    graph: dict[str, Any]
    extra: dict[str, Any]
    outputs: tuple[str, ...]

    def row(self) -> list[Any]:
        """As ``/queue`` and ``/history`` show it."""
        return [self.number, self.id, self.graph, self.extra, list(self.outputs)]


class PromptQueue:
    """Prompts in order of their number; ``on_change`` is told after each change, on any thread."""

    def __init__(self, on_change: Callable[[], None]) -> None:
        self._on_change = on_change
        self._changed = threading.Condition(threading.RLock())
        self._order = itertools.count()
        self._waiting: list[tuple[float, int, Prompt]] = []
        self._running: Prompt | None = None
        self._history: dict[str, dict[str, Any]] = {}
        self._closed = False

    def put(self, prompt: Prompt) -> None:
        """Let a prompt wait."""
        with self._changed:
            heapq.heappush(self._waiting, (prompt.number, next(self._order), prompt))
            self._changed.notify()
        self._on_change()

    def take(self) -> Prompt | None:
        """Wait for the next prompt and make it the running one; ``None`` once closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            if self._closed:
                return None
            self._running = heapq.heappop(self._waiting)[2]
            taken = self._running
        self._on_change()
        return taken

    def done(self, prompt: Prompt, entry: dict[str, Any]) -> None:
        """Move the running prompt into the history."""
        with self._changed:
            self._running = None
            while len(self._history) >= _KEPT:
                del self._history[next(iter(self._history))]
            self._history[prompt.id] = {"prompt": prompt.row(), **entry}
        self._on_change()

    def close(self) -> None:
        """Let ``take`` return."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def remaining(self) -> int:
        """Prompts that wait or run."""
        with self._changed:
            return len(self._waiting) + (self._running is not None)

    def running(self) -> Prompt | None:
        """The one that runs."""
        with self._changed:
            return self._running

    def rows(self) -> dict[str, Any]:
        """The answer of ``/queue``."""
        with self._changed:
            waiting = [prompt.row() for _number, _order, prompt in sorted(self._waiting)]
            running = [self._running.row()] if self._running else []
        return {"queue_running": running, "queue_pending": waiting}

    def delete(self, ids: Collection[str] | None) -> None:
        """Drop waiting prompts: those named, or all. Nobody is told which."""
        with self._changed:
            kept = [item for item in self._waiting if ids is not None and item[2].id not in ids]
            changed = len(kept) != len(self._waiting)
            self._waiting = kept
            heapq.heapify(self._waiting)
        if changed:
            self._on_change()

    def history(self, prompt_id: str | None = None, newest: int | None = None) -> dict[str, Any]:
        """Prompts that ended, oldest first: all, the *newest*, or the one named."""
        with self._changed:
            if prompt_id is not None:
                entry = self._history.get(prompt_id)
                return {prompt_id: entry} if entry else {}
            items = list(self._history.items())
        return dict(items[-newest:] if newest else items)

    def forget(self, ids: Collection[str] | None) -> None:
        """Drop history: of the prompts named, or all."""
        with self._changed:
            for prompt_id in list(self._history) if ids is None else ids:
                self._history.pop(prompt_id, None)
