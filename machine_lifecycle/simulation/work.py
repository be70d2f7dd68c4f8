"""What each node does. Runs on the thread that executes prompts; needs Pillow."""

from __future__ import annotations

import json
import os
import random
import re
import string
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import attrs

from machine_lifecycle.simulation import render

__all__ = ["Desk", "Done", "OutOfMemoryError", "run_node"]

_BYTES_PER_PIXEL = 12  # three channels of single precision, as in ComfyUI's tensors
_SAVED_COMPRESSION = 4
_PREVIEW_COMPRESSION = 1
_SPIN = 0.01
_ERRORS: Mapping[str, type[BaseException]] = MappingProxyType(
    {
        "ValueError": ValueError,
        "RuntimeError": RuntimeError,
        "MemoryError": MemoryError,
        "SystemExit": SystemExit,
    }
)


class OutOfMemoryError(RuntimeError):
    """The simulated GPU has not that much memory."""


class Desk(Protocol):
    """What a node needs from the executor."""

    @property
    def step_seconds(self) -> float:
        """How long one sampling step takes."""

    @property
    def memory(self) -> int:
        """Bytes of the simulated GPU."""

    @property
    def texts(self) -> Mapping[str, Any]:
        """What a saved picture remembers of its prompt."""

    def folder(self, kind: str) -> Path:
        """The folder of ``input``, ``output`` or ``temp`` files."""

    def step(self, value: int, limit: int) -> bool:
        """Tell progress, unless it was just told; whether it was. Raises when interrupted."""

    def send_image(self, png: bytes) -> None:
        """Send a picture over the socket."""


@attrs.frozen
class Done:
    """What a node gave.

    Attributes:
        values: Its outputs, in order.
        shown: What the history and ``executed`` say of an output node.
    """

    values: tuple[Any, ...] = ()
    shown: Mapping[str, Any] | None = None


def run_node(kind: str, inputs: Mapping[str, Any], desk: Desk) -> Done:
    """Do what a node of class *kind* does. Raises whatever the node raises."""
    return _WORK[kind](inputs, desk)


def _claim(desk: Desk, width: int, height: int, batch: int) -> None:
    wanted = width * height * batch * _BYTES_PER_PIXEL
    if wanted > desk.memory:
        raise OutOfMemoryError(
            f"CUDA out of memory. Tried to allocate {wanted} bytes. "
            f"GPU 0 has a total capacity of {desk.memory} bytes."
        )


def _empty_image(inputs: Mapping[str, Any], desk: Desk) -> Done:
    size = (inputs["width"], inputs["height"], inputs["batch_size"])
    _claim(desk, *size)
    return Done((render.blank(*size, inputs["color"]),))


def _invert(inputs: Mapping[str, Any], _desk: Desk) -> Done:
    return Done((render.invert(inputs["image"]),))


def _scale(inputs: Mapping[str, Any], desk: Desk) -> Done:
    _claim(desk, inputs["width"], inputs["height"], len(inputs["image"]))
    scaled = render.scale(
        inputs["image"],
        inputs["upscale_method"],
        inputs["width"],
        inputs["height"],
        center=inputs["crop"] == "center",
    )
    return Done((scaled,))


def _load(inputs: Mapping[str, Any], desk: Desk) -> Done:
    path = desk.folder("input") / inputs["image"].removesuffix(" [input]")
    return Done((render.from_file(str(path)), None))


def _store(
    batch: tuple[render.Picture, ...], desk: Desk, kind: str, prefix: str, compression: int
) -> Done:
    root = desk.folder(kind).resolve()
    wanted = (root / prefix).resolve()
    if not wanted.is_relative_to(root) or wanted == root:
        raise ValueError("Saving image outside the output folder is not allowed.")
    wanted.parent.mkdir(parents=True, exist_ok=True)
    pattern = re.compile(re.escape(wanted.name) + r"_(\d+)_")
    taken = [
        int(match.group(1))
        for entry in wanted.parent.iterdir()
        if (match := pattern.match(entry.name))
    ]
    texts = {name: json.dumps(value) for name, value in desk.texts.items()}
    subfolder = wanted.parent.relative_to(root)
    images = []
    for counter, picture in enumerate(batch, max(taken, default=0) + 1):
        name = f"{wanted.name}_{counter:05}_.png"
        (wanted.parent / name).write_bytes(render.as_png(picture, texts, compression))
        folder = "" if subfolder == Path() else subfolder.as_posix()
        images.append({"filename": name, "subfolder": folder, "type": kind})
    return Done((), {"images": images})


def _save(inputs: Mapping[str, Any], desk: Desk) -> Done:
    return _store(inputs["images"], desk, "output", inputs["filename_prefix"], _SAVED_COMPRESSION)


def _preview(inputs: Mapping[str, Any], desk: Desk) -> Done:
    letters = "".join(random.choices(string.ascii_lowercase, k=5))  # noqa: S311  # a file name
    prefix = f"ComfyUI_temp_{letters}"
    return _store(inputs["images"], desk, "temp", prefix, _PREVIEW_COMPRESSION)


def _send(inputs: Mapping[str, Any], desk: Desk) -> Done:
    batch = inputs["images"]
    for index, picture in enumerate(batch):
        desk.step(index, len(batch))
        desk.send_image(render.as_png(picture, {}, _PREVIEW_COMPRESSION))
    return Done()


def _checkpoint(inputs: Mapping[str, Any], _desk: Desk) -> Done:
    name = inputs["ckpt_name"]
    return Done((name, name, name))


def _encode(inputs: Mapping[str, Any], _desk: Desk) -> Done:
    return Done((inputs["text"],))


def _latent(inputs: Mapping[str, Any], desk: Desk) -> Done:
    size = {"width": inputs["width"] // 8 * 8, "height": inputs["height"] // 8 * 8}
    _claim(desk, size["width"], size["height"], inputs["batch_size"])
    return Done((render.Sampled(**size, batch=inputs["batch_size"]),))


def _sample(inputs: Mapping[str, Any], desk: Desk) -> Done:
    steps = inputs["steps"]
    for step in range(1, steps + 1):
        time.sleep(desk.step_seconds)
        desk.step(step, steps)
    named = ("model", "seed", "cfg", "sampler_name", "scheduler", "positive", "negative", "denoise")
    latent: render.Sampled = inputs["latent_image"]
    sampled = attrs.evolve(
        latent,
        key=json.dumps([latent.key, steps, *(inputs[name] for name in named)]),
        detail=min(7, 3 + steps // 6),
        contrast=min(1.4, max(0.7, 0.8 + inputs["cfg"] / 40)),
    )
    return Done((sampled,))


def _decode(inputs: Mapping[str, Any], _desk: Desk) -> Done:
    return Done((render.paint(inputs["samples"]),))


def _steps(inputs: Mapping[str, Any], desk: Desk) -> Done:
    for step in range(1, inputs["steps"] + 1):
        time.sleep(inputs["seconds"])
        if desk.step(step, inputs["steps"]):  # as a sampler shows what it is about to make
            desk.send_image(render.as_png(inputs["image"][0], {}, _PREVIEW_COMPRESSION))
    return Done((inputs["image"],))


def _raise(inputs: Mapping[str, Any], _desk: Desk) -> Done:
    raise _ERRORS[inputs["kind"]](inputs["message"])


_FRAMES = 60
"""Calls on the stack, as PyTorch 2.11 told of them after an assertion on a GPU."""


def _fault(inputs: Mapping[str, Any], desk: Desk) -> Done:
    """Fail as CUDA does on one instance, named as its folder; on others the picture goes on."""
    if inputs["instance"] in desk.folder("output").parts:
        if inputs["ending"] == "abort":
            # PyTorch's last words: the calls that led there come after what it was.
            calls = (f"frame #{number}: <unknown function>" for number in range(_FRAMES))
            print(inputs["message"], *calls, sep="\n", file=sys.stderr, flush=True)  # noqa: T201
            os.abort()
        raise RuntimeError(inputs["message"])
    return Done((inputs["image"],))


def _delay(inputs: Mapping[str, Any], _desk: Desk) -> Done:
    time.sleep(inputs["seconds"])
    return Done((inputs["image"],))


def _effort(inputs: Mapping[str, Any], _desk: Desk) -> Done:
    until = time.monotonic() + inputs["seconds"]
    while time.monotonic() < until:
        # A third of a processor: the pages must still answer beside it.
        spun = time.monotonic() + _SPIN
        while time.monotonic() < spun:
            continue
        time.sleep(2 * _SPIN)
    return Done((inputs["image"],))


_WORK: Mapping[str, Callable[[Mapping[str, Any], Desk], Done]] = MappingProxyType(
    {
        "EmptyImage": _empty_image,
        "ImageInvert": _invert,
        "ImageScale": _scale,
        "LoadImage": _load,
        "SaveImage": _save,
        "PreviewImage": _preview,
        "SaveImageWebsocket": _send,
        "CheckpointLoaderSimple": _checkpoint,
        "CLIPTextEncode": _encode,
        "EmptyLatentImage": _latent,
        "KSampler": _sample,
        "VAEDecode": _decode,
        "SimulateSteps": _steps,
        "SimulateRaise": _raise,
        "SimulateFault": _fault,
        "SimulateDelay": _delay,
        "SimulateEffort": _effort,
    }
)
