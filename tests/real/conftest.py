"""What a real ComfyUI is driven with: graphs of its core nodes, and machines around it.

Nothing here needs a model or a node pack. These tests are left out unless asked for (``-m real``),
and skipped by name where a variable that they need is not set.
"""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import attrs
import pytest

from machine_lifecycle.jobs.client import JobQueue
from machine_lifecycle.jobs.records import JobRecord
from machine_lifecycle.model.paths import Paths
from machine_lifecycle.system.redis import connect
from machine_lifecycle.system.valkey import read_discovery
from tests.support.outside import Outside, machines
from tests.support.ports import free_port

_T = TypeVar("_T")

COLOUR = 0x336699
INVERTED = (204, 153, 101)
"""What ComfyUI makes of it: it cuts off, so that the inverse of 0x99 is 101."""


NODES = Path(__file__).parents[1] / "data" / "node_packs"
"""Node packs of ours, for what core nodes can't do: fail in every way, and keep a book."""
START = 240.0
"""Seconds for the start of two ComfyUIs beside each other; one takes 8 on an idle machine."""
_HANDED_ON = ("COMFYUI_BRANCH", "COMFYUI_COMMIT", "COMFYUI_LOCK", "COMFY_ARGS", "HF_HUB_OFFLINE")
_HANDED_ON_PREFIXES = ("GIT_CONFIG_", "PIP_", "UV_")


def variable(name: str) -> str:
    """What a variable says where the real thing is; the test is skipped without it."""
    value = os.environ.get(name, "")  # noqa: TID251 - the person who runs the tests says it there
    if not value:
        pytest.skip(f"{name} is not set: no real ComfyUI to run against")
    return value


@attrs.frozen
class Version:
    """A ComfyUI that a machine installs: where it is cloned from, and what runs it."""

    url: str
    python: str

    @property
    def name(self) -> str:
        """Owner and name, as the tests are named after it."""
        return "/".join(self.url.removesuffix(".git").rstrip("/").split("/")[-2:])


def versions() -> list[Version | None]:
    """Those that ``COMFYUI_REPO_URL`` and ``COMFYUI_PYTHON`` name, with blanks between; else a
    single None.
    """
    urls, pythons = (
        shlex.split(os.environ.get(name, ""))  # noqa: TID251 - see variable
        for name in ("COMFYUI_REPO_URL", "COMFYUI_PYTHON")
    )
    pythons = pythons * len(urls) if len(pythons) == 1 else pythons
    if not pythons:
        return [None]
    return [Version(*pair) for pair in zip(urls, pythons, strict=True)]


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

    def steps(
        self, mark: str, *, steps: int, seconds: float, ledger: Path | None = None
    ) -> dict[str, Any]:
        """Steps of so many seconds each, by a node of our own pack ``checks``."""
        inputs = {"steps": steps, "seconds": seconds, "mark": mark, "ledger": str(ledger or "")}
        return {
            "1": _empty(0x223344, 64, 48),
            "2": {"class_type": "CheckSteps", "inputs": {"image": ["1", 0], **inputs}},
            "3": _save("2", f"steps-{mark}"),
        }


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

    def queue(self, graphs: Sequence[dict[str, Any]]) -> list[str]:
        """Submit many at once, as a program does; their ids."""

        async def submit(client: JobQueue) -> list[str]:
            return [await client.submit(one, service_required="comfyui") for one in graphs]

        return asyncio.run(self._talk(submit))

    def until_ended(self, jobs: Sequence[str], seconds: float = 300) -> list[JobRecord]:
        """Wait until all of them have ended; what is known of them then."""

        async def end(client: JobQueue) -> list[JobRecord]:
            async with asyncio.timeout(seconds):
                for job in jobs:
                    async for _ in client.watch(job):
                        continue
            return [await client.get(job) for job in jobs]

        return asyncio.run(self._talk(end))

    async def _talk(self, conversation: Callable[[JobQueue], Awaitable[_T]]) -> _T:
        env = self.machine.env
        runtime, workspace = Path(env["MACHINE_RUNTIME_DIR"]), Path(env["WORKSPACE_PATH"])
        redis = connect(read_discovery(Paths(workspace=workspace, runtime=runtime)).url)
        try:
            return await conversation(JobQueue(redis))
        finally:
            await redis.aclose()

    def show(self, job: str) -> Any:
        """Everything known of a job."""
        return json.loads(self.machine.call("jobs", "show", job, "--json").stdout)

    def boot(self) -> list[dict[str, Any]]:
        """Boot it; the events until it was ready."""
        self.machine.start().until("machine_ready")
        return self.machine.events

    def status(self) -> Any:
        """``status --json``."""
        return json.loads(self.machine.call("status", "--json").stdout)

    def page(self, path: str) -> Any:
        """What a page of its health server answers."""
        with asked(self.status()["health_url"] + path) as answer:
            return answer

    def processes(self) -> dict[str, Any]:
        """``ps`` by name."""
        listed = json.loads(self.machine.call("ps", "--json").stdout)
        return {process["name"]: process for process in listed}

    def until_running(self, job: str) -> None:
        """Wait until a node works on the job: until then the service may not know it."""
        deadline = time.monotonic() + 60
        while not self.show(job)["progress"]:
            assert time.monotonic() < deadline, self.show(job)

    def until_ready(self, *names: str) -> dict[str, Any]:
        """Wait until processes are ready; ``ps`` by name then."""
        deadline = time.monotonic() + START
        while not all((found := self.processes())[name]["ready"] for name in names):
            assert time.monotonic() < deadline, {name: found[name] for name in names}
        return found


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


def machine_settings(version: Version, **settings: str) -> dict[str, str]:
    """Those of a machine that installs this ComfyUI and starts it on its simulated GPUs."""
    passed = {
        name: value
        for name, value in os.environ.items()  # noqa: TID251 - see variable
        if name in _HANDED_ON or name.startswith(_HANDED_ON_PREFIXES)
    }
    return {
        **passed,
        "COMFYUI_REPO_URL": version.url,
        "COMFYUI_PYTHON": version.python,
        "WORKERS": "comfyui:1",
        "GPU_MODE": "mock",
        "MOCK_GPU_NUM": "1",
        "REDIS": "embedded",
        "COMFYUI_BASE_PORT": str(free_port(count=4)),
        **settings,
    }


def repository(folder: Path, **files: str) -> str:
    """A git repository with these files; its path."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__dot__", ".")).write_text(text, encoding="utf-8")
    login = ("-c", "user.name=Somebody", "-c", "user.email=somebody@example.org")
    for words in (("init", "-q"), ("add", "."), (*login, "commit", "-qm", "One pack")):
        subprocess.run(["git", *words], cwd=folder, check=True)  # noqa: S607 - as a person would
    return str(folder)


def node_list(folder: Path, *packs: dict[str, Any]) -> str:
    """A list of node packs for ``CONFIG_NODES_PATH``."""
    path = folder / "config_nodes.json"
    path.write_text(json.dumps({"custom_nodes": packs}), encoding="utf-8")
    return str(path)


@pytest.fixture(scope="session")
def checks(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A list with our own pack: nodes that fail in every way, take their time, keep a book."""
    folder = tmp_path_factory.mktemp("packs")
    copied = shutil.copytree(NODES / "checks", folder / "checks")
    return node_list(folder, {"name": "checks", "url": repository(copied), "required": True})


@pytest.fixture(
    scope="session", params=versions(), ids=lambda version: version.name if version else "none"
)
def comfyui(request: pytest.FixtureRequest) -> Version:
    """Each ComfyUI in turn that there is to install."""
    if request.param is None:
        for name in ("COMFYUI_REPO_URL", "COMFYUI_PYTHON"):
            variable(name)
    version: Version = request.param
    return version


@pytest.fixture
def local(outside: Callable[..., Outside], comfyui: Version) -> Callable[..., Driven]:
    """Makes machines that install and start a ComfyUI; see ``machine_settings``."""

    def make(**settings: str) -> Driven:
        machine = outside(**machine_settings(comfyui, **settings))
        machine.patience = START
        return Driven(machine)

    return make
