"""Drives services that do a job in one request: JSON in; JSON, text or a file out."""

from __future__ import annotations

import asyncio
import json
import mimetypes
import ssl
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any, ClassVar, Self

import aiohttp
import attrs

from machine_lifecycle.connectors.base import (
    Endpoint,
    Job,
    JobResult,
    Output,
    Probe,
    Progress,
    ProgressCallback,
)
from machine_lifecycle.connectors.environment import endpoint_from
from machine_lifecycle.connectors.errors import ServiceUnreachable
from machine_lifecycle.connectors.http_errors import ServiceFailedJob, ServiceRefusedJob
from machine_lifecycle.errors import LifecycleError

__all__ = ["HttpAnswer", "HttpConnector"]

_KINDS = ("image", "video", "audio", "text")
_CLIENT_ERRORS = range(400, 500)
_LATER = (408, 425, 429)
"""Client errors that say: later (RFC 9110, RFC 8470, RFC 6585)."""
_AWAY = range(502, 505)
"""What a proxy in front says while the service is away."""
_SAID = 500
"""Characters of an answer that are shown."""


@attrs.frozen(kw_only=True)
class HttpAnswer:
    """What a service answered.

    Attributes:
        status: The HTTP status.
        mime: Type of the body.
        name: File name that goes with it, or empty.
        body: The bytes.
    """

    status: int
    mime: str
    name: str
    body: bytes = attrs.field(repr=lambda data: f"<{len(data)} bytes>")


class HttpConnector:
    """Sends each job's payload to one address, and takes the answer for its result.

    A subclass says which service it is for, and where to::

        class SpeechConnector(HttpConnector):
            service = "speech"
            run_path = "/transcribe"

    An answer of JSON becomes the result's ``data``; any other becomes a file of its type. 4xx
    fails the job for good, 5xx for this run. A job that is cancelled has its request dropped.

    Where the instance is stands in ``SPEECH_HOST`` and ``SPEECH_PORT``, which the machine sets;
    ``SPEECH_SECURE``, ``_USERNAME``, ``_PASSWORD`` and ``_API_KEY`` are heeded too.

    Attributes:
        service: Name of the service, as in its definition.
        run_path: Takes a job's payload by POST.
        health_path: Answers 200 to GET when jobs may come.
        default_host: Where no host is named.
    """

    service: ClassVar[str]
    run_path: ClassVar[str] = "/run"
    health_path: ClassVar[str] = "/healthz"
    default_host: ClassVar[str] = "localhost"

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._session: aiohttp.ClientSession | None = None

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Self:
        """Make one from the worker's variables.

        Raises:
            BadServiceAddress: They name no address.
        """
        prefix = cls.service.upper().replace("-", "_")
        return cls(endpoint_from(environ, (prefix,), default_host=cls.default_host))

    async def __aenter__(self) -> Self:
        tls = ssl.create_default_context() if self._endpoint.secure else True
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=tls),
            headers=self._endpoint.headers(),
            # A job may take as long as its own limit says, which its worker watches.
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=10.0),
        )
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def probe(self) -> Probe:
        """Whether it does jobs; one that is down is an answer, no error."""
        try:
            answer = await self._ask("GET", self.health_path, limit=10.0)
        except ServiceUnreachable as error:
            return Probe(healthy=False, detail=error.reason)
        healthy = answer.status < _CLIENT_ERRORS.start
        return Probe(healthy=healthy, detail=f"HTTP status {answer.status}")

    async def capabilities(self) -> Mapping[str, Any]:
        """What the running service proved, for workers to advertise: nothing, here."""
        return {}

    async def run(self, job: Job, progress: ProgressCallback) -> JobResult:
        """Send the payload; the answer is the result.

        Raises:
            ServiceRefusedJob: It will not take it.
            ServiceFailedJob: It could not do it.
            ServiceUnreachable: Nobody answered.
        """
        progress(Progress(fraction=0.0, message=f"sent to {self.service}"))
        answer = await self._ask("POST", self.run_path, json=dict(job.payload))
        if answer.status >= _CLIENT_ERRORS.start:
            raise self._failure(answer)
        return self.result(answer)

    def _failure(self, answer: HttpAnswer) -> LifecycleError:
        url, status = self._endpoint.url(self.run_path), answer.status
        if status in _AWAY:
            return ServiceUnreachable(url=url, reason=f"HTTP status {status}")
        said = answer.body.decode("utf-8", "replace")[:_SAID].strip()
        if status in _CLIENT_ERRORS and status not in _LATER:
            return ServiceRefusedJob(url=url, status=status, said=said)
        return ServiceFailedJob(url=url, status=status, said=said)

    async def cancel(self, job_id: str) -> bool:  # noqa: ARG002 - see below
        """Nothing is to be done: the worker ends ``run``, and with it the request."""
        return False

    def result(self, answer: HttpAnswer) -> JobResult:
        """What an answer comes to. Override it where that is more than a document or one file."""
        if answer.mime == "application/json":
            try:
                value = json.loads(answer.body)
            except (ValueError, RecursionError) as error:
                said = f"no JSON, as it said: {error}"
                url = self._endpoint.url(self.run_path)
                raise ServiceFailedJob(url=url, status=answer.status, said=said) from error
            return JobResult(data=value if isinstance(value, dict) else {"result": value})
        kind = answer.mime.partition("/")[0]
        name = answer.name or f"output{mimetypes.guess_extension(answer.mime) or '.bin'}"
        output = Output(
            name=name,
            kind=kind if kind in _KINDS else "binary",
            mime=answer.mime,
            data=answer.body,
        )
        return JobResult(outputs=(output,))

    async def _ask(
        self, method: str, path: str, *, limit: float | None = None, **body: Any
    ) -> HttpAnswer:
        if self._session is None:
            raise RuntimeError("the connector is not entered")
        url = self._endpoint.url(path)
        try:
            async with (
                asyncio.timeout(limit),
                self._session.request(method, url, **body) as answer,
            ):
                disposition = answer.content_disposition
                return HttpAnswer(
                    status=answer.status,
                    mime=answer.content_type,
                    name=_name((disposition.filename or "") if disposition else ""),
                    body=await answer.read(),
                )
        except TimeoutError as error:
            reason = f"no answer within {limit:g} s" if limit else "no connection in time"
            raise ServiceUnreachable(url=url, reason=reason) from error
        except aiohttp.ClientError as error:
            raise ServiceUnreachable(url=url, reason=str(error)) from error


def _name(told: str) -> str:
    """A file name without a folder, whatever the service says."""
    return PurePosixPath(told.replace("\\", "/")).name
