"""A ComfyUI that runs elsewhere: nothing is installed or started here."""

from __future__ import annotations

from machine_lifecycle.model.services import Binding, ServiceDefinition

__all__ = ["SERVICE"]

SERVICE = ServiceDefinition(
    name="comfyui-remote",
    summary="A ComfyUI that runs elsewhere.",
    capabilities=("comfyui",),
    connector="machine_lifecycle.connectors.comfyui:ComfyUIRemoteConnector",
    binding=Binding.SHARED,
    required_env=("WORKER_COMFYUI_REMOTE_HOST",),
    secrets=("WORKER_COMFYUI_REMOTE_PASSWORD", "WORKER_COMFYUI_REMOTE_API_KEY"),
    aliases=("ComfyUIRemoteConnector",),
)
