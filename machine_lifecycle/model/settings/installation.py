"""What is installed beside the services themselves, from where, and how."""

from __future__ import annotations

from pathlib import Path

import attrs

from machine_lifecycle.model.choices import LockMode
from machine_lifecycle.model.settings.fields import setting
from machine_lifecycle.model.settings.services import OfServices

__all__ = ["OfInstallation"]


@attrs.frozen(kw_only=True)
class OfInstallation(OfServices):
    """What is brought to disk."""

    # Installation
    comfyui_nodes: Path | None = setting(
        "CONFIG_NODES_PATH", None, "The list of node packs, a `config_nodes.json`; unset: none."
    )
    comfyui_lock: LockMode = setting(
        "COMFYUI_LOCK",
        LockMode.MAKE,
        "The lock of what is installed: `make` one where there is none, `require` one, or `off`: "
        "install what branches and ranges of versions come to.",
    )
    torch_backend: str = setting(
        "TORCH_BACKEND",
        "",
        "Build of torch for a new environment: `cpu`, `cu128`, `auto` …; `none`: whatever the "
        "package index has; empty: `auto` with an NVIDIA driver, else `cpu`.",
    )
    comfyui_install_py: bool = setting(
        "COMFYUI_INSTALL_PY",
        True,
        "Run the `install.py` of node packs that have one, as ComfyUI's managers do.",
    )
    pack_floor: float = setting(
        "MACHINE_PACK_FLOOR",
        0.9,
        "Share of the node packs that are not required which must be in, 0 to 1; one may always be "
        "missing, but with 1.",
    )
    packs_timeout: float = setting(
        "MACHINE_PACKS_TIMEOUT",
        1800.0,
        "Seconds that node packs which are not required are waited for, each beside what all packs "
        "need; then the boot goes on without those that are not in. 0: as long as it takes.",
    )
    install_concurrency: int = setting(
        "MACHINE_INSTALL_CONCURRENCY", 8, "Installation steps that run at once."
    )
    git_cache: Path | None = setting(
        "MACHINE_GIT_CACHE",
        None,
        "Folder in which fetched commits are kept; workspaces and machines may share one. Unset: "
        "in the workspace.",
    )
    git_global_config: bool = setting(
        "MACHINE_GIT_GLOBAL_CONFIG", False, "Let git read the user's and the system's settings."
    )

    # Where things may come from
    mirrors: str = setting(
        "MACHINE_MIRRORS",
        "",
        "Where else repositories and models are asked for: `ADDRESS=INSTEAD,…`, by how they begin.",
    )
    allowed_hosts: str = setting(
        "MACHINE_ALLOWED_HOSTS",
        "",
        "Hosts that repositories and models may come from, separated by commas; empty: all.",
    )
    commits_only: bool = setting(
        "MACHINE_COMMITS_ONLY",
        False,
        "Take repositories only at full commits that a list or a lock of yours names.",
    )
    blocked_packs: Path | None = setting(
        "MACHINE_BLOCKED_PACKS",
        None,
        "Node packs that are never installed, by name or address, a line each, beside those known "
        "to do harm.",
    )
    blocked_packages: Path | None = setting(
        "MACHINE_BLOCKED_PACKAGES",
        None,
        "Packages that are never installed, a constraints file, beside those known to do harm.",
    )

    # Models
    models_manifest: Path | None = setting(
        "MODELS_MANIFEST",
        None,
        "The list of models that are downloaded, a JSON file; unset: none.",
    )
    models_cache: Path | None = setting(
        "MODELS_CACHE",
        None,
        "Folder that keeps models by their SHA-256 for several workspaces and machines; unset: "
        "none is kept.",
    )
    models_connections: int = setting(
        "MODELS_CONNECTIONS",
        4,
        "Connections that bring one large model at once, where its server hands out pieces.",
    )
    models_concurrency: int = setting(
        "MODELS_CONCURRENCY", 4, "Models that are downloaded at once, beside other steps."
    )
