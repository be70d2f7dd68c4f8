"""The service ``shout``: installed, started, probed and driven. All of it is this one file."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, ClassVar, Self

import aiohttp
import attrs

from machine_lifecycle import (
    Binding,
    Command,
    HttpReady,
    InstallContext,
    Instance,
    Job,
    JobResult,
    LifecycleError,
    Output,
    Ports,
    Probe,
    Progress,
    ServiceDefinition,
    Step,
    StepContext,
)

__all__ = ["SERVICE", "ShoutConnector", "ShoutInstaller"]


@attrs.define(kw_only=True, slots=False, eq=False)
class ShoutFailed(LifecycleError):
    """The service could not do it now, or is away: the job is tried again."""

    code: ClassVar[str] = "shout-failed"

    reason: str

    @property
    def summary(self) -> str:
        """Why."""
        return f"shout: {self.reason}"


@attrs.define(kw_only=True, slots=False, eq=False)
class ShoutRefused(ShoutFailed):
    """The service won't take the job. Another run would end the same, so that there is none."""

    code: ClassVar[str] = "shout-refused"
    recoverable: ClassVar[bool] = False


class ShoutInstaller:
    """Plans the installation; it never runs anything itself."""

    def plan(self, context: InstallContext) -> tuple[Step, ...]:
        """One step, skipped at every later boot for as long as its fingerprint is the same."""
        marks = context.home / "marks.txt"

        async def write(step: StepContext) -> None:
            marks.parent.mkdir(parents=True, exist_ok=True)
            marks.write_text("!", encoding="utf-8")
            step.report(f"wrote {marks.name}")

        return (
            Step(
                id="marks",
                summary="write the exclamation marks",
                fingerprint="1",
                run=write,
                present=marks.is_file,
            ),
        )


def process(instance: Instance) -> Command:
    """One instance of the server: it must stay in the foreground and listen on its port."""
    return Command(
        argv=(
            *(sys.executable, "-m", "shout_service"),
            *("--host", instance.host, "--port", str(instance.port)),
            *("--marks", str(instance.home / "marks.txt")),
        )
    )


class ShoutConnector:
    """Drives one instance. A worker enters it once and leaves it at its end."""

    def __init__(self, url: str) -> None:
        self._url = url

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Self:
        """Where the instance is stands in ``SHOUT_HOST`` and ``SHOUT_PORT``."""
        return cls(f"http://{environ['SHOUT_HOST']}:{environ['SHOUT_PORT']}")

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(self._url)
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._session.close()

    async def probe(self) -> Probe:
        """Whether it can do jobs; a service that is merely down is an answer, no error."""
        try:
            async with self._session.get("/healthz") as answer:
                return Probe(healthy=answer.ok, version="1.0")
        except aiohttp.ClientError as error:
            return Probe(healthy=False, detail=str(error))

    async def capabilities(self) -> Mapping[str, Any]:
        """What the running service proved; workers advertise it."""
        return {"loudness": "high"}

    async def run(self, job: Job, progress: Callable[[Progress], None]) -> JobResult:
        """Do one job."""
        progress(Progress(fraction=0.1, message="shouting"))
        try:
            async with asyncio.timeout(job.timeout):
                async with self._session.post("/shout", json=dict(job.payload)) as answer:
                    said = await answer.text()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise ShoutFailed(reason=str(error) or "no answer in time") from error
        if not answer.ok:
            refused = answer.status == HTTPStatus.BAD_REQUEST
            raise ShoutRefused(reason=said) if refused else ShoutFailed(reason=said)
        text = Output(name="said.txt", kind="text", mime="text/plain", data=said.encode())
        return JobResult(outputs=(text,), data={"said": said})

    async def cancel(self, job_id: str) -> bool:  # noqa: ARG002 - nothing to look up
        """It shouts too fast to be stopped."""
        return False


SERVICE = ServiceDefinition(
    name="shout",
    summary="Says it louder.",
    capabilities=("shout",),
    connector="shout_service:ShoutConnector",
    installer="shout_service:ShoutInstaller",
    process=process,
    binding=Binding.SHARED,
    ports=Ports(base=9200),
    readiness=(HttpReady(path="/healthz"),),
    start_deadline=20.0,
)
