"""Runs prompts, one at a time, and tells what it does in ComfyUI's frames.

Everything here but ``interrupt`` and ``free`` happens on one thread. A node that raises
``SystemExit`` ends that thread and nothing says so: the prompt stays running for ever. ComfyUI does
the same, and those who drive it must be able to meet it.
"""

from __future__ import annotations

import hashlib
import random
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from machine_lifecycle.simulation import frames
from machine_lifecycle.simulation.flavours import Flavour
from machine_lifecycle.simulation.graph import is_link
from machine_lifecycle.simulation.nodes import NODES
from machine_lifecycle.simulation.queue import Prompt, PromptQueue
from machine_lifecycle.simulation.telling import Send, Teller

if TYPE_CHECKING:
    from machine_lifecycle.simulation.work import Done

__all__ = ["Executor", "Folders", "Habits"]


@attrs.frozen(kw_only=True)
class Habits:
    """How the simulated GPU behaves.

    Attributes:
        step_seconds: What a sampling step takes.
        failure_rate: Share of prompts that fail, 0 to 1.
        gpu_name: For ``/system_stats``.
        gpu_memory: Bytes.
    """

    step_seconds: float = 0.05
    failure_rate: float = 0.0
    gpu_name: str = "Simulated GPU"
    gpu_memory: int = 16 * 2**30


@attrs.frozen(kw_only=True)
class Folders:
    """Where files are."""

    input: Path
    output: Path
    temp: Path


class _Interrupted(Exception):  # not an error, and never seen outside
    """The prompt was interrupted."""


class Executor:
    """Takes prompts from a queue and runs them on a thread of its own."""

    def __init__(
        self, queue: PromptQueue, flavour: Flavour, folders: Folders, habits: Habits, send: Send
    ) -> None:
        self.queue = queue
        self.flavour = flavour
        self.folders = folders
        self.habits = habits
        self.send = send
        self.interrupted: threading.Event = threading.Event()
        self.client: str | None = None
        """Socket of the running prompt, and"""
        self.node: str | None = None
        """the node it is at: what a socket that comes back is told."""
        self.cache: dict[str, Done] = {}
        self._free = threading.Event()
        self._dice = random.Random()  # noqa: S311  # simulated bad luck
        self._thread = threading.Thread(target=self._work, name="prompts", daemon=True)

    def start(self) -> None:
        """Begin to take prompts."""
        self._thread.start()

    def join(self) -> None:
        """Wait until the thread has ended, after the queue was closed and the run interrupted."""
        self._thread.join()

    def interrupt(self) -> None:
        """Stop the running prompt at its next step or node."""
        self.interrupted.set()

    def free(self) -> None:
        """Forget cached results before the next prompt."""
        self._free.set()

    def unlucky(self) -> bool:
        """Whether this prompt is to fail."""
        return self._dice.random() < self.habits.failure_rate

    def _work(self) -> None:
        while (prompt := self.queue.take()) is not None:
            if self._free.is_set():
                self._free.clear()
                self.cache.clear()
            self.interrupted.clear()
            client = prompt.extra.get("client_id")
            self.client = client if isinstance(client, str) else None
            try:
                entry = _Run(self, prompt).run()
            except SystemExit:
                return  # the prompt stays the running one, for ever
            # The history is written before the last frame: who sees the frame finds the entry.
            self.queue.done(prompt, entry)
            if self.client is not None:
                last = {"node": None, "prompt_id": prompt.id}
                self.send(frames.frame("executing", last), self.client)
            self.client = self.node = None


class _Run:
    """One run of one prompt; the desk at which its nodes work."""

    def __init__(self, executor: Executor, prompt: Prompt) -> None:
        self._executor = executor
        self._prompt = prompt
        self._teller = Teller(
            executor.flavour,
            executor.send,
            prompt_id=prompt.id,
            client=executor.client,
            nodes=prompt.graph,
        )
        self._signatures: dict[str, str] = {}
        self._results: dict[str, Done] = {}

    # What nodes may ask for

    @property
    def step_seconds(self) -> float:
        return self._executor.habits.step_seconds

    @property
    def memory(self) -> int:
        return self._executor.habits.gpu_memory

    @property
    def texts(self) -> Mapping[str, Any]:
        more = self._prompt.extra.get("extra_pnginfo")
        return {"prompt": self._prompt.graph, **(more if isinstance(more, dict) else {})}

    def folder(self, kind: str) -> Path:
        folder: Path = getattr(self._executor.folders, kind)
        return folder

    def step(self, value: int, limit: int) -> bool:
        node = self._executor.node or ""
        if not self._teller.due(node, value, limit):
            return False
        self._check()
        self._teller.step(node, value, limit)
        return True

    def send_image(self, png: bytes) -> None:
        self._teller.image(png)

    # The run

    def run(self) -> dict[str, Any]:
        """Run all nodes; the history's entry, but for the prompt itself."""
        graph = self._prompt.graph
        wanted = self._wanted()
        for node in wanted:
            self._sign(node)
        cached = [node for node in graph if self._signatures.get(node) in self._executor.cache]
        self._teller.note("execution_start", {})
        self._teller.note("execution_cached", {"nodes": cached})
        self._teller.total = max(1, len(graph) - len(cached))
        unlucky = self._executor.unlucky()
        ended_well = all(self._node(node, unlucky=unlucky) for node in self._order(wanted))
        if ended_well:
            self._teller.note("execution_success", {})
        kept = {self._signatures[node]: done for node, done in self._results.items()}
        self._executor.cache = kept
        return {
            "outputs": self._teller.shown,
            "status": {
                "status_str": "success" if ended_well else "error",
                "completed": ended_well,
                "messages": self._teller.messages,
            },
            "meta": {node: _meta(node) for node in self._teller.shown},
        }

    def _links(self, node: str) -> list[tuple[str, str, int]]:
        inputs = self._prompt.graph[node].get("inputs", {})
        return [(name, *value) for name, value in inputs.items() if is_link(value)]

    def _wanted(self) -> list[str]:
        """Nodes that the outputs need, in the order in which ComfyUI finds them."""
        found: dict[str, None] = {}
        look = list(self._prompt.outputs)
        while look:
            node = look.pop(0)
            if node not in found:
                found[node] = None
                look += [source for _name, source, _slot in self._links(node)]
        return list(found)

    def _sign(self, node: str) -> str:
        """What a node's result depends on; equal signatures share a result."""
        if node not in self._signatures:
            inputs = dict(self._prompt.graph[node].get("inputs", {}))
            for name, source, slot in self._links(node):
                inputs[name] = [self._sign(source), slot]
            kind = self._prompt.graph[node]["class_type"]
            text = repr((kind, sorted(inputs.items())))
            self._signatures[node] = hashlib.sha256(text.encode()).hexdigest()
        return self._signatures[node]

    def _order(self, wanted: list[str]) -> list[str]:
        """Sources before those that use them; outputs as soon as they can run."""
        waiting = list(wanted)
        done: set[str] = set()
        order = []
        while waiting:
            ready = [
                node
                for node in waiting
                if all(source in done for _name, source, _slot in self._links(node))
            ]
            outputs = [node for node in ready if self._class(node).is_output]
            chosen = (outputs or ready)[0]
            waiting.remove(chosen)
            done.add(chosen)
            order.append(chosen)
        return order

    def _class(self, node: str) -> Any:
        return NODES[self._prompt.graph[node]["class_type"]]

    def _node(self, node: str, *, unlucky: bool) -> bool:
        spec = self._class(node)
        cached = self._executor.cache.get(self._signatures[node])
        if cached is not None and not spec.is_output:
            self._results[node] = cached
            return True
        self._executor.node = node
        self._teller.begin(node, spec.name)
        if cached is not None:
            self._finish(node, cached)
            return True
        inputs = self._inputs(node)
        try:
            self._check()
            if unlucky:
                raise RuntimeError("Simulated failure")  # noqa: TRY301  # as if the node had raised
            done = self._do(spec.name, inputs)
        except _Interrupted:
            self._teller.stop(node, spec.name)
            return False
        except Exception as error:  # noqa: BLE001  # a node may raise anything, and that is told
            self._teller.fail(node, spec.name, inputs, error)
            return False
        self._teller.executed.append(node)
        self._finish(node, done)
        return True

    def _finish(self, node: str, done: Done) -> None:
        self._results[node] = done
        self._teller.finish(node, done.shown)

    def _do(self, kind: str, inputs: Mapping[str, Any]) -> Done:
        # Pillow takes longer to load than the server does to listen.
        from machine_lifecycle.simulation.work import run_node  # noqa: PLC0415

        return run_node(kind, inputs, self)

    def _check(self) -> None:
        if self._executor.interrupted.is_set():
            raise _Interrupted

    def _inputs(self, node: str) -> dict[str, Any]:
        inputs = dict(self._prompt.graph[node].get("inputs", {}))
        for name, source, slot in self._links(node):
            inputs[name] = self._results[source].values[slot]
        return inputs


def _meta(node: str) -> dict[str, Any]:
    return {"node_id": node, "display_node": node, "parent_node": None, "real_node_id": node}
