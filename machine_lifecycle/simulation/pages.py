"""The pages that know nothing of prompts: files, lists, and what the machine is."""

from __future__ import annotations

import mimetypes
import os
import platform
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web

from machine_lifecycle.simulation.custom_nodes import CustomNodes
from machine_lifecycle.simulation.execution import Folders, Habits
from machine_lifecycle.simulation.flavours import Flavour
from machine_lifecycle.simulation.nodes import CHECKPOINT, object_info

__all__ = ["FilePages", "ListPages", "input_names", "json_errors", "only_own_origin"]

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_MODEL_FOLDERS = {"checkpoints": [CHECKPOINT], "loras": [], "vae": [], "upscale_models": []}


@web.middleware
async def only_own_origin(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse pages of other sites, as ComfyUI does on a loopback address."""
    origin = request.headers.get("Origin")
    if origin and urlsplit(origin).netloc.lower() != request.headers.get("Host", "").lower():
        return web.Response(status=403)
    return await handler(request)


@web.middleware
async def json_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer a body that can't be read with a 500 in plain text, without a traceback on stderr."""
    try:
        return await handler(request)
    except (ValueError, TypeError, AttributeError):
        text = "500 Internal Server Error\n\nServer got itself in trouble"
        return web.Response(status=500, text=text)


def input_names(folders: Folders) -> tuple[str, ...]:
    """Files in the input folder, by their path within it."""
    root = folders.input
    if not root.is_dir():
        return ()
    files = (path for path in root.rglob("*") if path.is_file())
    return tuple(sorted(path.relative_to(root).as_posix() for path in files))


class FilePages:
    """``/view`` and ``/upload/image``."""

    def __init__(self, folders: Folders) -> None:
        self._folders = folders

    async def view(self, request: web.Request) -> web.StreamResponse:
        """One file."""
        name = request.query.get("filename", "")
        if not name:
            return web.Response(status=404)
        root = self._root(request.query.get("type", "output"))
        if root is None or name.startswith("/") or ".." in name:
            return web.Response(status=400)
        path = (root / request.query.get("subfolder", "") / Path(name).name).resolve()
        if not path.is_relative_to(root.resolve()):
            return web.Response(status=403)
        if not path.is_file():
            return web.Response(status=404)
        kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        headers = {"Content-Disposition": f'filename="{path.name}"', "Content-Type": kind}
        return web.FileResponse(path, headers=headers)

    async def upload(self, request: web.Request) -> web.Response:
        """Take a file into the input folder, or the one of another type."""
        form = await request.post()
        image = form.get("image")
        if not isinstance(image, web.FileField) or not image.filename:
            return web.Response(status=400)
        kind = str(form.get("type", "input"))
        root = self._root(kind)
        if root is None:
            return web.Response(status=400)
        subfolder = str(form.get("subfolder", ""))
        folder = (root / subfolder).resolve()
        path = (folder / image.filename).resolve()
        if not path.is_relative_to(root.resolve()):
            return web.Response(status=400)
        folder.mkdir(parents=True, exist_ok=True)
        data = image.file.read()
        if form.get("overwrite") not in ("true", "1"):
            path = _free_name(path, data)
        path.write_bytes(data)
        return web.json_response({"name": path.name, "subfolder": subfolder, "type": kind})

    def _root(self, kind: str) -> Path | None:
        folders = self._folders
        return {"input": folders.input, "output": folders.output, "temp": folders.temp}.get(kind)


def _free_name(path: Path, data: bytes) -> Path:
    """The name itself, or one with a number, if a file with other bytes has it."""
    number = 1
    free = path
    while free.exists() and free.read_bytes() != data:
        free = path.with_name(f"{path.stem} ({number}){path.suffix}")
        number += 1
    return free


class ListPages:
    """What the service can do, and on what."""

    def __init__(
        self,
        flavour: Flavour,
        habits: Habits,
        folders: Folders,
        argv: tuple[str, ...],
        packs: CustomNodes,
    ) -> None:
        self._flavour = flavour
        self._habits = habits
        self._folders = folders
        self._argv = argv
        self._packs = packs

    async def object_info(self, request: web.Request) -> web.Response:
        """All classes, or one."""
        answer = {**object_info(input_names(self._folders)), **self._packs.info}
        name = request.match_info.get("name")
        if name is not None:
            answer = {name: answer[name]} if name in answer else {}
        return web.json_response(answer)

    async def system_stats(self, _request: web.Request) -> web.Response:
        """Version, memory, devices, and the arguments it was started with."""
        ram = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        memory = self._habits.gpu_memory
        device: dict[str, Any] = {
            "name": f"cuda:0 {self._habits.gpu_name} : simulated",
            "type": "cuda",
            "index": 0,
            "vram_total": memory,
            "vram_free": memory,
            "torch_vram_total": 0,
            "torch_vram_free": 0,
        }
        system = {
            "os": self._flavour.os,
            "ram_total": ram,
            "ram_free": ram // 2,
            "comfyui_version": self._flavour.version,
            "python_version": platform.python_version(),
            "pytorch_version": "simulated",
            "embedded_python": False,
            "argv": list(self._argv),
        }
        return web.json_response({"system": system, "devices": [device]})

    async def extensions(self, _request: web.Request) -> web.Response:
        """Scripts that node packs add to the page."""
        return web.json_response(list(self._packs.scripts))

    async def embeddings(self, _request: web.Request) -> web.Response:
        """There are none."""
        return web.json_response([])

    async def models(self, request: web.Request) -> web.Response:
        """Folders of models, or the models of one."""
        folder = request.match_info.get("folder")
        if folder is None:
            return web.json_response(list(_MODEL_FOLDERS))
        if folder not in _MODEL_FOLDERS:
            return web.Response(status=404)
        return web.json_response(_MODEL_FOLDERS[folder])

    async def features(self, _request: web.Request) -> web.Response:
        """What newer versions say of themselves."""
        return web.json_response(self._flavour.features)
