"""What nodes there are: their inputs, limits and outputs. What they do is in ``work``.

Nothing heavy is imported here, so that a server can list its nodes before it can render.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import attrs

__all__ = ["CHECKPOINT", "NODES", "SAMPLERS", "SCHEDULERS", "NodeClass", "object_info"]

CHECKPOINT = "simulated.safetensors"
"""The one model there is."""

SAMPLERS = ("euler", "euler_ancestral", "heun", "dpm_2", "lms", "dpmpp_2m", "dpmpp_sde", "ddim")
SCHEDULERS = ("normal", "karras", "exponential", "sgm_uniform", "simple", "ddim_uniform", "beta")
_UPSCALERS = ("nearest-exact", "bilinear", "area", "bicubic", "lanczos")
_MAX_SIDE = 16384  # the largest side that ComfyUI's own image nodes allow
_MAX_SEED = 2**64 - 1
_KINDS = ("ValueError", "RuntimeError", "MemoryError", "SystemExit")

_HIDDEN = MappingProxyType({"prompt": "PROMPT", "extra_pnginfo": "EXTRA_PNGINFO"})


@attrs.frozen(kw_only=True)
class NodeClass:
    """One class of nodes.

    Attributes:
        name: As in ``class_type``.
        title: For people.
        required: Per input its type, or its choices, and its limits.
        hidden: Inputs the server fills in.
        outputs: Types, in order.
        is_output: Whether a graph may end in it.
        category: Where the web page lists it.
        module: Where it comes from.
    """

    name: str
    title: str
    required: Mapping[str, tuple[Any, Mapping[str, Any]]]
    hidden: Mapping[str, str] = attrs.field(factory=dict)
    outputs: tuple[str, ...] = ()
    is_output: bool = False
    category: str = "image"
    module: str = "nodes"

    def info(self) -> dict[str, Any]:
        """Its entry in ``/object_info``."""
        required = {
            name: ([kind, dict(limits)] if limits else [kind])
            for name, (kind, limits) in self.required.items()
        }
        answer: dict[str, Any] = {"input": {"required": required}}
        order: dict[str, Any] = {"required": list(self.required)}
        if self.hidden:
            answer["input"]["hidden"] = dict(self.hidden)
            order["hidden"] = list(self.hidden)
        return {
            **answer,
            "input_order": order,
            "output": list(self.outputs),
            "output_is_list": [False] * len(self.outputs),
            "output_name": list(self.outputs),
            "name": self.name,
            "display_name": self.title,
            "description": "",
            "python_module": self.module,
            "category": self.category,
            "output_node": self.is_output,
        }


def _int(default: int, low: int, high: int, **more: Any) -> tuple[str, dict[str, Any]]:
    return "INT", {"default": default, "min": low, "max": high, **more}


def _float(default: float, low: float, high: float) -> tuple[str, dict[str, Any]]:
    return "FLOAT", {"default": default, "min": low, "max": high}


def _link(kind: str) -> tuple[str, dict[str, Any]]:
    return kind, {}


def _choice(*values: str) -> tuple[list[str], dict[str, Any]]:
    return list(values), {}


def _text(default: str = "") -> tuple[str, dict[str, Any]]:
    return "STRING", {"default": default}


_PACK = "custom_nodes.simulation"

_CLASSES = (
    NodeClass(
        name="EmptyImage",
        title="EmptyImage",
        required={
            "width": _int(512, 1, _MAX_SIDE, step=1),
            "height": _int(512, 1, _MAX_SIDE, step=1),
            "batch_size": _int(1, 1, 4096),
            "color": _int(0, 0, 0xFFFFFF, step=1, display="color"),
        },
        outputs=("IMAGE",),
    ),
    NodeClass(
        name="ImageInvert",
        title="Invert Image",
        required={"image": _link("IMAGE")},
        outputs=("IMAGE",),
    ),
    NodeClass(
        name="ImageScale",
        title="Upscale Image",
        required={
            "image": _link("IMAGE"),
            "upscale_method": _choice(*_UPSCALERS),
            "width": _int(512, 0, _MAX_SIDE, step=1),
            "height": _int(512, 0, _MAX_SIDE, step=1),
            "crop": _choice("disabled", "center"),
        },
        outputs=("IMAGE",),
        category="image/upscaling",
    ),
    NodeClass(
        name="SaveImage",
        title="Save Image",
        required={"images": _link("IMAGE"), "filename_prefix": _text("ComfyUI")},
        hidden=_HIDDEN,
        is_output=True,
    ),
    NodeClass(
        name="PreviewImage",
        title="Preview Image",
        required={"images": _link("IMAGE")},
        hidden=_HIDDEN,
        is_output=True,
    ),
    NodeClass(
        name="SaveImageWebsocket",
        title="SaveImageWebsocket",
        required={"images": _link("IMAGE")},
        is_output=True,
        category="api/image",
    ),
    NodeClass(
        name="LoadImage",
        title="Load Image",
        required={"image": ([], {"image_upload": True})},
        outputs=("IMAGE", "MASK"),
    ),
    NodeClass(
        name="CheckpointLoaderSimple",
        title="Load Checkpoint",
        required={"ckpt_name": _choice(CHECKPOINT)},
        outputs=("MODEL", "CLIP", "VAE"),
        category="loaders",
    ),
    NodeClass(
        name="CLIPTextEncode",
        title="CLIP Text Encode (Prompt)",
        required={"text": _text(), "clip": _link("CLIP")},
        outputs=("CONDITIONING",),
        category="conditioning",
    ),
    NodeClass(
        name="EmptyLatentImage",
        title="Empty Latent Image",
        required={
            "width": _int(512, 16, _MAX_SIDE, step=8),
            "height": _int(512, 16, _MAX_SIDE, step=8),
            "batch_size": _int(1, 1, 4096),
        },
        outputs=("LATENT",),
        category="latent",
    ),
    NodeClass(
        name="KSampler",
        title="KSampler",
        required={
            "model": _link("MODEL"),
            "seed": _int(0, 0, _MAX_SEED),
            "steps": _int(20, 1, 10000),
            "cfg": _float(8.0, 0.0, 100.0),
            "sampler_name": _choice(*SAMPLERS),
            "scheduler": _choice(*SCHEDULERS),
            "positive": _link("CONDITIONING"),
            "negative": _link("CONDITIONING"),
            "latent_image": _link("LATENT"),
            "denoise": _float(1.0, 0.0, 1.0),
        },
        outputs=("LATENT",),
        category="sampling",
    ),
    NodeClass(
        name="VAEDecode",
        title="VAE Decode",
        required={"samples": _link("LATENT"), "vae": _link("VAE")},
        outputs=("IMAGE",),
        category="latent",
    ),
    NodeClass(
        name="SimulateSteps",
        title="Simulate: steps",
        required={
            "image": _link("IMAGE"),
            "steps": _int(4, 1, 10000),
            "seconds": _float(0.05, 0.0, 60.0),
            "nonce": _int(0, 0, 2**31 - 1),
        },
        outputs=("IMAGE",),
        category="simulation",
        module=_PACK,
    ),
    NodeClass(
        name="SimulateRaise",
        title="Simulate: raise",
        required={
            "image": _link("IMAGE"),
            "kind": _choice(*_KINDS),
            "message": _text("asked to fail"),
        },
        outputs=("IMAGE",),
        category="simulation",
        module=_PACK,
    ),
    NodeClass(
        name="SimulateFault",
        title="Simulate: a fault of one GPU",
        required={
            "image": _link("IMAGE"),
            "instance": _text(),
            "message": _text("CUDA error: unspecified launch failure"),
            "ending": _choice("exception", "abort"),
        },
        outputs=("IMAGE",),
        category="simulation",
        module=_PACK,
    ),
    NodeClass(
        name="SimulateDelay",
        title="Simulate: delay without a word",
        required={"image": _link("IMAGE"), "seconds": _float(1.0, 0.0, 3600.0)},
        outputs=("IMAGE",),
        category="simulation",
        module=_PACK,
    ),
    NodeClass(
        name="SimulateEffort",
        title="Simulate: work without a word",
        required={"image": _link("IMAGE"), "seconds": _float(1.0, 0.0, 3600.0)},
        outputs=("IMAGE",),
        category="simulation",
        module=_PACK,
    ),
)

NODES: Mapping[str, NodeClass] = MappingProxyType({node.name: node for node in _CLASSES})
"""Every class by name."""


def object_info(images: tuple[str, ...] = ()) -> dict[str, Any]:
    """The answer of ``/object_info``.

    Args:
        images: Names of files in the input folder, the choices of ``LoadImage``.
    """
    answer = {name: node.info() for name, node in NODES.items()}
    answer["LoadImage"]["input"]["required"]["image"][0] = list(images)
    return answer
