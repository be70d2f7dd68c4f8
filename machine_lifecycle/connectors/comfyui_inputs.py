"""The images that a job brings: put among ComfyUI's inputs under names that can't collide.

Instances of one installation share their input folder, so that files a person put there are found
by all of them. Two jobs may bring different images under one name, at the same time. So each
is stored under a name made from its bytes, and the graph is told that name.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

import attrs

from machine_lifecycle.connectors.comfyui_pages import ComfyUIPages
from machine_lifecycle.connectors.comfyui_protocol import Payload
from machine_lifecycle.connectors.errors import BadPayload

__all__ = ["own_name", "renamed", "with_images"]

_DIGITS = 16
_ANNOTATION = " [input]"


def own_name(name: str, data: bytes) -> str:
    """A name for these bytes alone: the same bytes have it again, others never. No folders: some
    nodes accept only what lies at the top of the input folder.
    """
    path = PurePosixPath(name.replace("\\", "/"))
    digest = hashlib.sha256(data).hexdigest()[:_DIGITS]
    return f"{path.stem}-{digest}{path.suffix}"


def renamed(graph: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """The graph with every input that is one of *names* replaced, as ``NAME [input]`` too."""

    def told(value: Any) -> Any:
        if not isinstance(value, str):
            return value
        plain = value.removesuffix(_ANNOTATION)
        return names[plain] + value[len(plain) :] if plain in names else value

    return {
        node: {**body, "inputs": {key: told(one) for key, one in body["inputs"].items()}}
        if isinstance(body.get("inputs"), Mapping)
        else body
        for node, body in graph.items()
    }


async def with_images(pages: ComfyUIPages, payload: Payload) -> Payload:
    """Upload the payload's images; the payload whose graph names them as they are stored.

    Raises:
        BadPayload: An image's data is no base64.
        ServiceUnreachable: The service did not take one.
    """
    names: dict[str, str] = {}
    for name, encoded in payload.images:
        data = _decoded(name, encoded)
        names[name] = await pages.upload(own_name(name, data), data)
    return attrs.evolve(payload, graph=renamed(payload.graph, names)) if names else payload


def _decoded(name: str, data: str) -> bytes:
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        raise BadPayload(problem=f"the data of image {name} is no base64") from None
