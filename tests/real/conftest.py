"""What a real ComfyUI is driven with: graphs of its core nodes, and machines around it.

Nothing here needs a model or a node pack. These tests are left out unless asked for (``-m real``),
and skipped by name where a variable that they need is not set.
"""

from __future__ import annotations

import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest

from tests.support.outside import Outside, machines

COLOUR = 0x336699
INVERTED = (204, 153, 101)
"""What ComfyUI makes of it: it cuts off, so that the inverse of 0x99 is 101."""


def variable(name: str) -> str:
    """What a variable says where the real thing is; the test is skipped without it."""
    value = os.environ.get(name, "")  # noqa: TID251 - the person who runs the tests says it there
    if not value:
        pytest.skip(f"{name} is not set: no real ComfyUI to run against")
    return value


@attrs.frozen
class Graphs:
    """Graphs of core nodes."""

    def picture(self, colour: int = COLOUR, name: str = "real") -> dict[str, Any]:
        """An inverted picture of one colour, 64 x 48."""
        return {
            "1": _empty(colour, 64, 48),
            "2": {"class_type": "ImageInvert", "inputs": {"image": ["1", 0]}},
            "3": _save("2", name),
        }

    def invalid(self) -> dict[str, Any]:
        """A graph that is refused: a height below its minimum."""
        return {"1": _empty(0, 64, -5), "2": _save("1", "invalid")}

    def raising(self) -> dict[str, Any]:
        """A graph that is accepted, and whose node raises: more memory than there is."""
        return {
            "1": {**_empty(0, 16384, 16384), "inputs": _inputs(0, 16384, 16384, 4096)},
            "2": _save("1", "raising"),
        }

    def slow(self, colour: int, steps: int = 12) -> dict[str, Any]:
        """One that works for seconds, and looks between its nodes whether it is to stop."""
        graph: dict[str, Any] = {"1": _empty(colour, 1024, 1024)}
        for number in range(2, steps + 2):
            graph[str(number)] = {
                "class_type": "ImageBlur",
                "inputs": {"image": [str(number - 1), 0], "blur_radius": 31, "sigma": 5.0},
            }
        return {**graph, "99": _save(str(steps + 1), "slow")}


def _inputs(colour: int, width: int, height: int, batch: int = 1) -> dict[str, Any]:
    return {"width": width, "height": height, "batch_size": batch, "color": colour}


def _empty(colour: int, width: int, height: int) -> dict[str, Any]:
    return {"class_type": "EmptyImage", "inputs": _inputs(colour, width, height)}


def _save(node: str, name: str) -> dict[str, Any]:
    return {"class_type": "SaveImage", "inputs": {"images": [node, 0], "filename_prefix": name}}


@attrs.frozen
class Driven:
    """A machine, and its queue as a person uses it."""

    machine: Outside

    def submit(self, graph: dict[str, Any], *words: str) -> Any:
        """``submit --json``; what it prints, with the seconds it took."""
        path = self.machine.folder / "graph.json"
        path.write_text(json.dumps(graph), encoding="utf-8")
        began = time.monotonic()
        done = self.machine.call(
            *("submit", str(path), "--service", "comfyui", "--json", *words),
            *(("--out", str(self.machine.folder / "out")) if "--watch" in words else ()),
        )
        assert done.stdout, done.stderr
        answer = json.loads(done.stdout)
        return answer | {"took": time.monotonic() - began} if isinstance(answer, dict) else answer

    def show(self, job: str) -> Any:
        """Everything known of a job."""
        return json.loads(self.machine.call("jobs", "show", job, "--json").stdout)

    def processes(self) -> dict[str, Any]:
        """``ps`` by name."""
        listed = json.loads(self.machine.call("ps", "--json").stdout)
        return {process["name"]: process for process in listed}

    def until_running(self, job: str) -> None:
        """Wait until a node works on the job: until then the service may not know it."""
        deadline = time.monotonic() + 30
        while not self.show(job)["progress"]:
            assert time.monotonic() < deadline, self.show(job)


@contextmanager
def asked(url: str, timeout: float = 10) -> Iterator[Any]:
    """The JSON that a page answers."""
    with urllib.request.urlopen(url, timeout=timeout) as answer:  # noqa: S310 - said by the person
        yield json.loads(answer.read().decode() or "null")


def answers(url: str) -> bool:
    """Whether a ComfyUI answers there."""
    try:
        with asked(f"{url}/system_stats"):
            return True
    except (urllib.error.URLError, OSError):
        return False


@pytest.fixture
def graphs() -> Graphs:
    return Graphs()


@pytest.fixture
def outside() -> Iterator[Callable[..., Outside]]:
    with machines() as make:
        yield make


@pytest.fixture
def first_picture() -> Callable[[Any], tuple[tuple[int, int], Any]]:
    """Size of the first saved picture of an answer, and its first pixel."""
    from PIL import Image  # noqa: PLC0415 - only these tests look at pixels

    def look(answer: Any) -> tuple[tuple[int, int], Any]:
        with Image.open(Path(answer["saved"][0])) as picture:
            return picture.size, picture.getpixel((0, 0))

    return look
