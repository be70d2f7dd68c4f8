"""A service in one file: what is installed, started, probed and driven.

With this file's folder on `PYTHONPATH`:

    WORKERS=greeter:SERVICE REDIS=embedded machine-lifecycle
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import aiohttp

from machine_lifecycle import (
    Binding,
    Command,
    HttpReady,
    Instance,
    Job,
    JobResult,
    Output,
    PipInstaller,
    Ports,
    Probe,
    Progress,
    ServiceDefinition,
)

SERVER = Path(__file__).parent / "server"

# A line as in a requirements file: "whisper-server==2.1" for a package of an index.
INSTALLER = PipInstaller(
    packages=(f"greeter-server @ {SERVER.as_uri()}",),
    proof=("-c", "import greeter_server"),
)


def process(instance: Instance) -> Command:
    """The installer's environment is `venv` in the service's folder."""
    python = instance.home / "venv" / "bin" / "python"
    return Command(argv=(str(python), "-m", "greeter_server", "--port", str(instance.port)))


class GreeterConnector:
    """Drives one instance."""

    def __init__(self, url: str) -> None:
        self._url = url

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Self:
        """Where the instance is stands in variables named after the service."""
        return cls(f"http://{environ['GREETER_HOST']}:{environ['GREETER_PORT']}")

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(self._url)
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._session.close()

    async def probe(self) -> Probe:
        """Whether it can do jobs."""
        try:
            async with self._session.get("/") as answer:
                return Probe(healthy=answer.ok)
        except aiohttp.ClientError as error:
            return Probe(healthy=False, detail=str(error))

    async def capabilities(self) -> Mapping[str, Any]:
        """What workers advertise of it."""
        return {}

    async def run(self, job: Job, progress: Callable[[Progress], None]) -> JobResult:
        """Do one job: greet the one who is named."""
        progress(Progress(fraction=0.5, message="greeting"))
        async with self._session.post("/", data=str(job.payload["name"])) as answer:
            said = await answer.text()
        text = Output(name="greeting.txt", kind="text", mime="text/plain", data=said.encode())
        return JobResult(outputs=(text,), data={"said": said})

    async def cancel(self, job_id: str) -> bool:  # noqa: ARG002 - there is nothing to look up
        """Greetings are too short to be cancelled."""
        return False


SERVICE = ServiceDefinition(
    name="greeter",
    summary="Greets.",
    capabilities=("greet",),
    connector="greeter:GreeterConnector",
    installer="greeter:INSTALLER",
    process=process,
    binding=Binding.SHARED,
    ports=Ports(base=9300),
    readiness=(HttpReady(path="/"),),
    start_deadline=20.0,
)
