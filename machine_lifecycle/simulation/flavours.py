"""The dialects of ComfyUI that the stand-in speaks.

What differs between versions is data here, so that the server has one path for all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import attrs

__all__ = ["FLAVOURS", "FORK", "NEWEST", "UPSTREAM", "Flavour"]


@attrs.frozen(kw_only=True)
class Flavour:
    """How one version of ComfyUI talks.

    Attributes:
        name: As on the command line.
        version: What ``/system_stats`` says.
        os: What ``/system_stats`` calls a POSIX system.
        own_socket_ids: Every socket gets an id made by the server, said in a ``client_id`` frame,
            and the one asked for is ignored. A lost socket's events are lost with it.
        socket_prompts: Takes ``prompt`` and ``ping`` as text frames, and says ``node_executing``.
        progress_state: Repeats the state of all nodes at every step.
        keeps_prompt_id: Takes the prompt id that the client chose.
        targeted_interrupt: ``/interrupt`` with a prompt id stops that prompt only.
        lists_for_nothing: Empty ``node_errors`` of an early refusal are a list.
        plain_no_prompt: The error of a body without a prompt is text, not an object.
        newline_after_message: A node's exception message ends in a newline.
        missing_node_type: The newest way to refuse an unknown class.
        names_cycles: A cycle is told node by node.
        progress_interval: Seconds between a node's progress messages at the least, but for the
            first and the last; and
        progress_percent: how much must be done since. An interruption is noticed only when a
            message is due.
        bare_module_names: Imports a node pack by its name; newer ones by its path.
        entry_points: Calls a node pack's ``comfy_entrypoint``.
        lacking_nodes: What a node pack without nodes is said to lack.
        level_tags: Says in front of each line of its log how much it matters.
        features: What ``/features`` answers; ``None`` where there is no such page.
    """

    name: str
    version: str
    os: str = "posix"
    own_socket_ids: bool = False
    socket_prompts: bool = False
    progress_state: bool = True
    keeps_prompt_id: bool = True
    targeted_interrupt: bool = True
    lists_for_nothing: bool = False
    plain_no_prompt: bool = False
    newline_after_message: bool = True
    missing_node_type: bool = False
    names_cycles: bool = False
    progress_interval: float = 0.0
    progress_percent: float = 0.0
    bare_module_names: bool = False
    entry_points: bool = True
    lacking_nodes: str = "NODE_CLASS_MAPPINGS or NODES_LIST (need one)"
    level_tags: bool = False
    features: Mapping[str, Any] | None = attrs.field(
        factory=lambda: {"supports_preview_metadata": True, "max_upload_size": 104857600}
    )


FORK = Flavour(
    name="fork",
    version="0.3.12",
    own_socket_ids=True,
    socket_prompts=True,
    progress_state=False,
    keeps_prompt_id=False,
    targeted_interrupt=False,
    lists_for_nothing=True,
    plain_no_prompt=True,
    newline_after_message=False,
    bare_module_names=True,
    entry_points=False,
    lacking_nodes="NODE_CLASS_MAPPINGS",
    features=None,
)
"""stakeordie/ComfyUI, which answers prompts over the socket."""

UPSTREAM = Flavour(name="upstream", version="0.3.64")
"""ComfyUI of autumn 2025."""

NEWEST = Flavour(
    name="newest",
    version="0.33.0",
    os="linux",
    missing_node_type=True,
    names_cycles=True,
    progress_interval=0.1,
    progress_percent=0.5,
    lacking_nodes="NODE_CLASS_MAPPINGS or comfy_entrypoint (need one)",
    level_tags=True,
)
"""ComfyUI of summer 2026."""

FLAVOURS = MappingProxyType({flavour.name: flavour for flavour in (FORK, UPSTREAM, NEWEST)})
"""Every flavour by name."""
