"""Fetches the files that a prompt made."""

from __future__ import annotations

import asyncio
import mimetypes
from collections.abc import Sequence
from urllib.parse import urlencode

from machine_lifecycle.connectors.comfyui_pages import ComfyUIPages, view_parameters
from machine_lifecycle.connectors.comfyui_protocol import FileReference
from machine_lifecycle.model.jobs import Output

__all__ = ["fetch_outputs", "kind_of"]

_AT_ONCE = 4
_UNKNOWN = "application/octet-stream"


async def fetch_outputs(
    pages: ComfyUIPages, files: Sequence[FileReference]
) -> tuple[tuple[Output, ...], list[str]]:
    """The files in their order, and the names of those that are gone.

    Raises:
        ServiceUnreachable: The service does not answer.
    """

    async def fetch(file: FileReference) -> Output | None:
        try:
            said, data = await pages.view(file)
        except FileNotFoundError:
            return None
        mime = _mime(file, said)
        return Output(
            name=file.name,
            kind=kind_of(mime, file.key),
            mime=mime,
            data=data,
            node=file.node,
            temporary=file.type == "temp",
            reference=f"/view?{urlencode(view_parameters(file))}",
        )

    if len(files) == 1:  # most graphs make one: it needs no task of its own
        fetched = [await fetch(files[0])]
    else:
        gate = asyncio.Semaphore(_AT_ONCE)

        async def in_turn(file: FileReference) -> Output | None:
            async with gate:
                return await fetch(file)

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(in_turn(file)) for file in files]
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None  # one broken download is as good as all
        fetched = [task.result() for task in tasks]
    missing = [file.name for file, output in zip(files, fetched, strict=True) if output is None]
    return tuple(output for output in fetched if output is not None), missing


def _mime(file: FileReference, said: str) -> str:
    """The name's ending says more than a service that does not know the type."""
    guessed = mimetypes.guess_type(file.name)[0]
    return guessed or (said if said != _UNKNOWN else "") or _UNKNOWN


def kind_of(mime: str, key: str = "") -> str:
    """``image``, ``video``, ``audio``, ``text`` or ``binary``.

    Args:
        mime: MIME type of the file.
        key: Under which the node showed it; ``gifs`` holds videos as well.
    """
    top = mime.partition("/")[0]
    if top in ("image", "video", "audio", "text"):
        return top
    if mime == "application/json":
        return "text"
    return {"images": "image", "gifs": "video", "video": "video", "audio": "audio"}.get(
        key, "binary"
    )
