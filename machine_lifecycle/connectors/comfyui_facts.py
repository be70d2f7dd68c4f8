"""What ComfyUI's pages say about the service itself. Without I/O."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from machine_lifecycle.connectors.comfyui_loading import module_pack
from machine_lifecycle.model.ports import Probe

__all__ = ["capabilities_of", "probe_of"]

_MODEL_INPUTS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "checkpoints": ("CheckpointLoaderSimple", "ckpt_name"),
        "loras": ("LoraLoader", "lora_name"),
        "vae": ("VAELoader", "vae_name"),
        "controlnet": ("ControlNetLoader", "control_net_name"),
        "upscale_models": ("UpscaleModelLoader", "model_name"),
        "diffusion_models": ("UNETLoader", "unet_name"),
        "clip": ("CLIPLoader", "clip_name"),
    }
)
"""Kinds of models, and the input of the node class whose choices are their names."""


def probe_of(stats: Any) -> Probe:
    """What ``/system_stats`` says."""
    system = stats.get("system") if isinstance(stats, dict) else None
    if not isinstance(system, dict):
        return Probe(healthy=False, detail="/system_stats has no system in it: no ComfyUI?")
    return Probe(
        healthy=True,
        version=str(system.get("comfyui_version", "")),
        facts={
            "argv": system.get("argv", []),
            "devices": _devices(stats),
            "pytorch_version": system.get("pytorch_version", ""),
        },
    )


def capabilities_of(stats: Any, object_info: Any) -> dict[str, Any]:
    """What the service proved it can do, from ``/system_stats`` and ``/object_info``.

    ``node_classes`` are the names of all, ``node_packs`` their number by the pack they are of.
    """
    classes = object_info if isinstance(object_info, dict) else {}
    packs = Counter(module_pack(str(e.get("python_module", ""))) for e in classes.values())
    packs.pop("", None)
    return {
        "comfyui_version": probe_of(stats).version,
        "node_classes": sorted(classes),
        "node_packs": dict(sorted(packs.items())),
        "models": {kind: found for kind in _MODEL_INPUTS if (found := _models(classes, kind))},
        "devices": _devices(stats),
    }


def _devices(stats: Any) -> list[dict[str, Any]]:
    wanted = ("name", "type", "index", "vram_total", "vram_free")
    devices = stats.get("devices") if isinstance(stats, dict) else None
    return [
        {key: device.get(key) for key in wanted}
        for device in (devices if isinstance(devices, list) else [])
        if isinstance(device, dict)
    ]


def _models(classes: Mapping[str, Any], kind: str) -> list[str]:
    name, field = _MODEL_INPUTS[kind]
    spec = classes.get(name, {}).get("input", {}).get("required", {}).get(field)
    if not isinstance(spec, list) or not spec:
        return []
    if isinstance(spec[0], list):
        return [str(choice) for choice in spec[0]]
    # The newest form: ["COMBO", {"options": [...]}].
    options = spec[1].get("options") if len(spec) > 1 and isinstance(spec[1], dict) else None
    return [str(choice) for choice in options] if isinstance(options, list) else []
