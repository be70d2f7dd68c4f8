"""Where ComfyUI looks for models: its own folders, and one beside it if the mapping names one."""

from __future__ import annotations

import json
from pathlib import Path

import attrs

from machine_lifecycle.installers.base import fingerprint
from machine_lifecycle.installers.errors import ModelsFolderUnusable
from machine_lifecycle.model.installing import InstallContext, Step, StepContext
from machine_lifecycle.system.files import write_atomically

__all__ = ["MODEL_FOLDERS", "Models"]

MODEL_FOLDERS = (
    *("animatediff_models", "checkpoints", "clip", "clip_vision", "configs", "controlnet"),
    *("diffusers", "diffusion_models", "embeddings", "gligen", "hypernetworks", "ipadapter"),
    *("loras", "photomaker", "sams", "style_models", "text_encoders", "ultralytics", "unet"),
    *("upscale_models", "vae", "vae_approx"),
)
"""Folders below ``models``: those that ComfyUI and common node packs look into."""

_MORE = ("custom_nodes", "input", "output", "user")
_OURS = "# Written by machine-lifecycle from the mapping's models_path."
_CONTAINER = Path("/workspace")
"""What older mappings write for the workspace, wherever it is."""


@attrs.frozen
class Models:
    """The folders of one ComfyUI.

    Attributes:
        home: Where ComfyUI is.
        beside: A further folder with models, named by ``models_path``; None: there is none.
    """

    home: Path
    beside: Path | None = None

    @classmethod
    def of(cls, context: InstallContext) -> Models:
        """As the mapping says; its ``/workspace`` is the machine's workspace."""
        text = context.options.get("models_path", "").strip()
        home, path = context.home, Path(text).expanduser()
        if not text:
            return cls(home)
        if path.is_relative_to(_CONTAINER) and not path.exists():
            path = context.paths.workspace / path.relative_to(_CONTAINER)
        path = path if path.is_absolute() else context.paths.workspace / path
        return cls(home, None if path == home / "models" else path)

    @property
    def _file(self) -> Path:
        """Read by ComfyUI at its start, all versions; its own ``.gitignore`` names it."""
        return self.home / "extra_model_paths.yaml"

    def step(self) -> Step:
        """The step that makes the folders."""
        return Step(
            id="folders",
            summary="make the model folders",
            fingerprint=fingerprint(*MODEL_FOLDERS, self.beside),
            needs=("clone",),
            timeout=60,
            run=self.make,
            present=self._are_there,
        )

    def _folders(self) -> tuple[Path, ...]:
        models = (self.home / "models" / name for name in MODEL_FOLDERS)
        return (*models, *(self.home / name for name in _MORE))

    def _text(self) -> str:
        """The file for ComfyUI; JSON texts are YAML texts too. Empty: there is nothing to say."""
        if self.beside is None:
            return ""
        folders = "".join(f"  {name}: {name}\n" for name in MODEL_FOLDERS)
        base = json.dumps(str(self.beside), ensure_ascii=False)
        head = f"{_OURS}\nmachine-lifecycle:\n  base_path: {base}\n  is_default: true\n"
        return head + folders

    def _written(self) -> str:
        try:
            return self._file.read_text("utf-8", "replace")
        except FileNotFoundError:
            return ""

    def _are_there(self) -> bool:
        written = self._written()
        current = written == self._text() or (bool(written) and not written.startswith(_OURS))
        return current and all(folder.is_dir() for folder in self._folders())

    async def make(self, ctx: StepContext) -> None:
        """Make the folders, and tell ComfyUI of the further one. A file of the user's stays.

        Raises:
            ModelsFolderUnusable: The further folder is not there and can't be made.
        """
        for folder in self._folders():
            folder.mkdir(parents=True, exist_ok=True)
        if self.beside is not None:
            self._make_beside(ctx, self.beside)
        written = self._written()
        if written and not written.startswith(_OURS):
            if self.beside is not None:
                ctx.report(
                    f"WARNING: {self._file} is yours and stays as it is: add {self.beside} to it"
                )
        elif text := self._text():
            write_atomically(self._file, text)
        else:
            self._file.unlink(missing_ok=True)

    def _make_beside(self, ctx: StepContext, beside: Path) -> None:
        try:
            for name in MODEL_FOLDERS:
                (beside / name).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            if not beside.is_dir():
                raise ModelsFolderUnusable(
                    folder=beside, problem=error.strerror or str(error)
                ) from error
            ctx.report(f"{beside} is used as it is: {error.strerror}")  # mounted read-only, say
