"""What the settings and the mapping ask for: which ComfyUI, which Python, which node packs."""

from __future__ import annotations

from pathlib import Path

from machine_lifecycle.config.nodes import NodeEntry, parse_nodes
from machine_lifecycle.installers.blocklist import blocked_packages
from machine_lifecycle.installers.commits import Commits
from machine_lifecycle.installers.origins import Origins
from machine_lifecycle.installers.packages import Environment, torch_backend
from machine_lifecycle.installers.repository import Repository, with_git_config
from machine_lifecycle.model.installing import InstallContext
from machine_lifecycle.model.paths import Paths
from machine_lifecycle.model.settings import Settings
from machine_lifecycle.system.files import read_named

__all__ = [
    "ALSO",
    "comfyui_environment",
    "comfyui_nodes",
    "comfyui_python",
    "comfyui_repository",
    "kept_commits",
    "packs_are_off",
]

ALSO = ("pip", "requests")
"""pip for scripts that call it; requests since ComfyUI 0.3 imports it and does not list it."""


def comfyui_python(settings: Settings, paths: Paths, service: str = "comfyui") -> Path:
    """The Python that runs ComfyUI: the one that was named, else that of its own environment."""
    if settings.comfyui_python:
        return Path(settings.comfyui_python)
    return paths.service(service) / "venv" / "bin" / "python"


def packs_are_off(context: InstallContext) -> bool:
    """Whether node packs are switched off, whatever is listed."""
    word = context.options.get("custom_nodes_enabled", "true").strip().lower()
    return word in {"false", "0", "no", "off"}


def comfyui_nodes(context: InstallContext) -> tuple[NodeEntry, ...]:
    """The list of node packs.

    Raises:
        Problems: It can't be used.
        FileNotRead: It can't be read.
    """
    path = context.settings.comfyui_nodes
    if path is None:
        return ()
    text = read_named(path, "CONFIG_NODES_PATH")
    return parse_nodes(text, context.environ, str(path))


def comfyui_repository(context: InstallContext) -> Repository:
    """Where ComfyUI comes from: the settings, else the mapping."""
    settings, options = context.settings, context.options
    url = settings.comfyui_repo_url
    if url == Settings().comfyui_repo_url:
        url = options.get("repo_url") or url
    return Repository(
        url=url.removeprefix("git clone ").strip(),
        branch=settings.comfyui_branch or options.get("branch", ""),
        commit=settings.comfyui_commit,
        # A mapping names a branch for every repository that may be set; a person means one.
        or_default=not settings.comfyui_branch,
    )


def comfyui_environment(context: InstallContext) -> Environment:
    """The Python environment that ComfyUI runs in."""
    settings = context.settings
    return Environment(
        python=comfyui_python(settings, context.paths, context.service),
        ours=not settings.comfyui_python,
        constraints=context.home / ".machine-lifecycle" / "torch-constraints.txt",
        environ=with_git_config(context.environ, Origins.of(settings).git_config()),
        blocked=blocked_packages(settings),
        backend=torch_backend(settings, context.hardware, context.environ),
    )


def kept_commits(context: InstallContext) -> Commits:
    """Where fetched commits are kept."""
    own = context.paths.workspace / ".machine-lifecycle" / "commits"
    return Commits(context.settings.git_cache or own)
