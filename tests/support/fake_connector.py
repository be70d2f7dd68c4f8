"""A connector for tests: does what the payload says, and writes down what it was asked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import attrs

from machine_lifecycle.errors import LifecycleError, Remedy
from machine_lifecycle.model.jobs import Job, JobResult, Output, Progress
from machine_lifecycle.model.ports import Probe


@attrs.define(kw_only=True, slots=False, eq=False)
class FakeFailure(LifecycleError):
    """The fake was told to fail."""

    code: ClassVar[str] = "fake-failure"
    recoverable: ClassVar[bool] = True


@attrs.define(kw_only=True, slots=False, eq=False)
class FakeRefusal(FakeFailure):
    """The fake was told to refuse for good."""

    code: ClassVar[str] = "fake-refusal"
    recoverable: ClassVar[bool] = False


@attrs.define(kw_only=True, slots=False, eq=False)
class FakeRant(FakeRefusal):
    """The fake was told to fail, at length."""

    code: ClassVar[str] = "fake-rant"

    length: int

    @property
    def summary(self) -> str:
        return f"it begins {'x' * self.length} and ends"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        return (Remedy("Say less", "shorter"), Remedy("x" * self.length, "x" * self.length))


@attrs.define(kw_only=True, slots=False, eq=False)
class FakeMute(FakeFailure):
    """The fake was told to fail without words."""

    code: ClassVar[str] = "fake-mute"

    @property
    def summary(self) -> str:
        raise RuntimeError("a bug in its words")  # noqa: TRY003, RUF100


class FakeConnector:
    """``FAKE_FOLDER``: a file ``down`` in it makes the service unhealthy; ``journal`` is kept."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Self:
        return cls(Path(environ["FAKE_FOLDER"]))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._note("left")

    async def probe(self) -> Probe:
        if (self._folder / "broken").exists():
            raise RuntimeError("a bug in probe")  # noqa: TRY003, RUF100
        down = self._folder / "down"
        if not down.exists():
            return Probe(healthy=True)
        return Probe(healthy=False, detail=down.read_text(encoding="utf-8") or "told to be down")

    async def capabilities(self) -> Mapping[str, Any]:
        return {"models": ["sdxl.safetensors"]}

    async def cancel(self, job_id: str) -> bool:
        self._note(f"cancel {job_id}")
        if (self._folder / "stubborn").exists():
            raise RuntimeError("a bug in cancel")  # noqa: TRY003, RUF100
        return True

    async def run(self, job: Job, progress: Callable[[Progress], None]) -> JobResult:
        self._note(f"run {job.id} {job.attempt}")
        payload = job.payload
        progress(Progress(fraction=0.5, message="half", step=5, steps=10))
        if payload.get("mumble"):
            progress(Progress(fraction="much", message="?"))  # type: ignore[arg-type]
            await asyncio.sleep(0.5)  # longer than the gap between two reports
            progress(Progress(fraction=0.75, message="clear again"))
        rant = int(payload.get("rant", 0))
        if rant:
            progress(Progress(fraction=0.6, message=f"it begins {'x' * rant} and ends"))
            await asyncio.sleep(0.5)  # longer than the gap between two reports
        self._fail(payload, job.attempt, rant)
        if payload.get("made"):  # what it made is fetched from here on
            progress(Progress(fraction=1.0, service_free=True))
        if payload.get("wait"):
            try:
                # Until the file is there: what the test that waits for us does last.
                await asyncio.wait_for(self._file(str(payload["wait"])), 120)
            except asyncio.CancelledError:
                self._note(f"cancelled {job.id}")
                raise
        self._note(f"end {job.id}")
        size = int(payload.get("bytes", 0))
        files = (
            Output(
                name="a.png",
                kind="image",
                mime="image/png",
                data=b"\xff" * size,
                node="9",
                reference="/view?filename=a.png",
            ),
        )
        if payload.get("result") == "none":
            return None  # type: ignore[return-value]  # as who forgets to return it
        if payload.get("result") == "other":
            return {"a": 1}  # type: ignore[return-value]  # as who takes it for the data alone
        if payload.get("result") == "odd":
            return JobResult(outputs=("a.png",))  # type: ignore[arg-type]
        if payload.get("result") == "odder":
            return JobResult(data=[1], warnings=None)  # type: ignore[arg-type]
        data = {
            "list": [],
            "words": "x" * int(payload.get("words", 0)),
            **({"bad": object()} if payload.get("fail") == "no json" else {}),
        }
        return JobResult(outputs=files if size else (), data=data, service_job_id="p1")

    def _fail(self, payload: Mapping[str, Any], attempt: int, rant: int) -> None:
        if payload.get("break_service"):
            (self._folder / "down").write_text("x" * rant, encoding="utf-8")
            raise FakeFailure
        if payload.get("fail") == "without words":
            raise FakeMute
        if payload.get("fail") == "at length":
            raise FakeRant(length=rant, where="x" * rant, context=("y" * rant,) * 3)
        if payload.get("fail") == "bug at length":
            raise RuntimeError(f"it begins {'x' * rant} and ends")  # noqa: TRY003, RUF100
        if payload.get("fail") == "half a character":
            raise OSError("can't open caf\udce9.png")  # noqa: TRY003, RUF100
        if payload.get("fail") == "once" and attempt == 1:
            raise FakeFailure
        if payload.get("fail") in {"always", True}:
            raise FakeFailure
        if payload.get("fail") == "for good":
            raise FakeRefusal
        if payload.get("fail") == "bug":
            raise RuntimeError("a bug")  # noqa: TRY003, RUF100

    async def _file(self, name: str) -> None:
        while not (self._folder / name).exists():  # noqa: ASYNC110 - a stand-in for GPU work
            await asyncio.sleep(0.01)

    def _note(self, line: str) -> None:
        with (self._folder / "journal").open("a", encoding="utf-8") as file:
            file.write(line + "\n")
