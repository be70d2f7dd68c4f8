"""ComfyUI's pages over HTTP: one method per address we use."""

from __future__ import annotations

import io
import json
import ssl
from collections.abc import Mapping
from typing import Any, Self

import aiohttp

from machine_lifecycle.connectors.base import Endpoint
from machine_lifecycle.connectors.comfyui_folders import Folders
from machine_lifecycle.connectors.comfyui_protocol import FileReference
from machine_lifecycle.connectors.errors import ServiceUnreachable

__all__ = ["ComfyUIPages", "tls_context"]

_OK = 200
_AT_ONCE = 64 * 1024
"""Bytes of a body that are sent at once."""
_BAD_GATEWAY = range(502, 505)  # what a proxy in front says while the service is away


def tls_context(endpoint: Endpoint) -> ssl.SSLContext | None:
    """The TLS settings; ``None`` without TLS. The option ``ca_file`` names further authorities."""
    if not endpoint.secure:
        return None
    return ssl.create_default_context(cafile=endpoint.options.get("ca_file"))


class ComfyUIPages:
    """An async context manager. Every method raises ``ServiceUnreachable`` if nobody answers."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._session: aiohttp.ClientSession | None = None
        self._folders = Folders(endpoint.options)

    async def __aenter__(self) -> Self:
        connect = float(self._endpoint.options.get("connect_timeout", 10.0))
        connector = aiohttp.TCPConnector(ssl=tls_context(self._endpoint) or True)
        self._session = aiohttp.ClientSession(
            connector=connector,
            headers=self._endpoint.headers(),
            # A service that computes may answer late; a connection that stands is waited for.
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=connect, sock_read=60.0),
        )
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def system_stats(self) -> Any:
        """Version, devices, arguments."""
        return await self._json("GET", "/system_stats")

    async def object_info(self) -> Any:
        """Every node class. Some megabytes."""
        return await self._json("GET", "/object_info")

    async def extensions(self) -> list[str]:
        """Addresses of the scripts that node packs add to the page."""
        found = await self._json("GET", "/extensions")
        return [str(address) for address in found] if isinstance(found, list) else []

    async def submit(self, body: Mapping[str, Any]) -> tuple[int, Any]:
        """Queue a prompt: HTTP status, and the answer's value, or its text where it is no JSON."""
        data = json.dumps(body).encode()
        status, _type, raw = await self._ask(
            "POST",
            "/prompt",
            # A large one as a stream: it is sent in pieces, and does not hold up the loop.
            data=data if len(data) <= _AT_ONCE else io.BytesIO(data),
            headers={"Content-Type": "application/json"},
        )
        try:
            return status, json.loads(raw)
        except ValueError:
            return status, raw.decode(errors="replace")

    async def history(self, prompt_id: str) -> Any:
        """What is known of a prompt that ended; an empty object while it has not."""
        return await self._json("GET", f"/history/{prompt_id}")

    async def latest(self, number: int) -> Any:
        """What is known of the prompts that ended last, the latest at the end."""
        return await self._json("GET", f"/history?max_items={number}")

    async def queue(self) -> Any:
        """What runs and what waits."""
        return await self._json("GET", "/queue")

    async def interrupt(self, prompt_id: str) -> None:
        """Stop the running prompt; only this one, where the version understands it."""
        await self._ask("POST", "/interrupt", json={"prompt_id": prompt_id})

    async def delete(self, prompt_id: str) -> None:
        """Drop a waiting prompt."""
        await self._ask("POST", "/queue", json={"delete": [prompt_id]})

    async def view(self, file: FileReference) -> tuple[str, bytes]:
        """A file: MIME type, empty where nobody was asked for it, and bytes.

        Raises:
            FileNotFoundError: The service has it no more.
        """
        data = await self._folders.read(file)
        if data is not None:
            return "", data
        status, kind, raw = await self._ask("GET", "/view", params=view_parameters(file))
        if status != _OK:
            raise FileNotFoundError(f"{file.filename}: HTTP status {status}")
        return kind, raw

    async def upload(self, name: str, data: bytes) -> str:
        """Put an image among the inputs; the name it got, which need not be the one asked for: a
        file of that name with other bytes is never overwritten.
        """
        form = aiohttp.FormData()
        form.add_field(
            "image", io.BytesIO(data), filename=name, content_type="application/octet-stream"
        )
        status, _type, raw = await self._ask("POST", "/upload/image", data=form)
        if status != _OK:
            raise self._unreachable(f"upload of {name} answered with HTTP status {status}")
        try:
            answer = json.loads(raw)
            folder, stored = answer.get("subfolder"), str(answer["name"])
        except (ValueError, KeyError, TypeError, AttributeError):
            raise self._unreachable(f"upload of {name} was not answered with its name") from None
        return f"{folder}/{stored}" if folder else stored

    async def _json(self, method: str, path: str) -> Any:
        status, _type, raw = await self._ask(method, path)
        if status != _OK:
            raise self._unreachable(f"{path} answered with HTTP status {status}")
        try:
            return json.loads(raw)
        except ValueError:
            raise self._unreachable(f"{path} answered with something that is no JSON") from None

    async def _ask(self, method: str, path: str, **more: Any) -> tuple[int, str, bytes]:
        if self._session is None:
            raise self._unreachable("the connector is closed")
        url = self._endpoint.url(path)
        try:
            async with self._session.request(method, url, **more) as response:
                raw = await response.read()
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise self._unreachable(_reason(error)) from error
        if response.status in _BAD_GATEWAY:
            raise self._unreachable(f"HTTP status {response.status}")
        return response.status, response.content_type, raw

    def _unreachable(self, reason: str) -> ServiceUnreachable:
        return ServiceUnreachable(url=self._endpoint.url(), reason=reason)


def view_parameters(file: FileReference) -> dict[str, str]:
    """The query that asks ``/view`` for a file."""
    return {"filename": file.filename, "subfolder": file.subfolder, "type": file.type}


def _reason(error: BaseException) -> str:
    return str(error) or type(error).__name__
