"""Node packs of the stand-in: a folder whose packs are imported as ComfyUI imports its own.

They are really imported, so that a pack can fail in every way that packs do, and what is logged of
it is what ComfyUI logs. Their nodes are listed, and can't be run.
"""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import sys
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import quote

import attrs

from machine_lifecycle.simulation.flavours import Flavour

__all__ = ["CustomNodes", "import_packs"]

_log = logging.getLogger("simulation")


@attrs.frozen
class CustomNodes:
    """What the packs that were imported brought.

    Attributes:
        info: Their entries in ``/object_info``.
        scripts: The addresses that ``/extensions`` lists.
    """

    info: Mapping[str, Mapping[str, Any]] = attrs.field(factory=dict)
    scripts: tuple[str, ...] = ()


def import_packs(folder: Path, flavour: Flavour) -> CustomNodes:
    """Import everything in *folder* that ComfyUI would, and log what it would."""
    info: dict[str, Mapping[str, Any]] = {}
    scripts: list[str] = []
    rows: list[tuple[float, str, bool]] = []
    for path in folder.iterdir():
        if path.name == "__pycache__" or path.name.endswith(".disabled"):
            continue
        if path.is_file() and path.suffix != ".py":
            continue
        began = time.perf_counter()
        loaded = _import(path, flavour, info, scripts)
        rows.append((time.perf_counter() - began, str(path), loaded))
    if rows:
        _tell(flavour, logging.INFO, "\nImport times for custom nodes:")
        for seconds, shown, loaded in sorted(rows):
            failed = "" if loaded else " (IMPORT FAILED)"
            _tell(flavour, logging.INFO, f"{seconds:6.1f} seconds{failed}: {shown}")
        _tell(flavour, logging.INFO, "")
    return CustomNodes(info=info, scripts=tuple(scripts))


def _tell(flavour: Flavour, level: int, text: str) -> None:
    tag = f"[{logging.getLevelName(level)}] " if flavour.level_tags else ""
    _log.log(level, "%s%s", tag, text)


def _import(
    path: Path, flavour: Flavour, info: dict[str, Mapping[str, Any]], scripts: list[str]
) -> bool:
    name = path.stem if path.is_file() else path.name
    # A dot in the name of a folder would be taken for a package's.
    module_name = name if flavour.bare_module_names else str(path).replace(".", "_x_")
    try:
        module = _execute(module_name, path if path.is_file() else path / "__init__.py")
        scripts += _scripts(name, path, module)
        classes = getattr(module, "NODE_CLASS_MAPPINGS", None)
        if classes is not None:
            for class_name, node in classes.items():
                info[class_name] = _info(class_name, node, f"custom_nodes.{name}")
            return True
        if flavour.entry_points and hasattr(module, "comfy_entrypoint"):
            return _enter(path, flavour, module)
    except Exception as error:  # noqa: BLE001 - a pack may raise anything, and the others come next
        _tell(flavour, logging.WARNING, traceback.format_exc())
        _tell(flavour, logging.WARNING, f"Cannot import {path} module for custom nodes: {error}")
        return False
    lack = f"Skip {path} module for custom nodes due to the lack of {flavour.lacking_nodes}."
    _tell(flavour, logging.WARNING, lack)
    return False


def _execute(name: str, file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} is no module")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _scripts(name: str, path: Path, module: ModuleType) -> list[str]:
    web = getattr(module, "WEB_DIRECTORY", None)
    if web is None or path.is_file():
        return []
    folder = (path / web).resolve()
    found = (file.relative_to(folder).as_posix() for file in sorted(folder.rglob("*.js")))
    return [f"/extensions/{quote(name)}/{quote(file)}" for file in found]


def _enter(path: Path, flavour: Flavour, module: ModuleType) -> bool:
    """The newer way to declare nodes. It needs ComfyUI's own classes, of which we have none."""
    try:
        entered = module.comfy_entrypoint()
        if asyncio.iscoroutine(entered):
            asyncio.run(entered)
    except Exception as error:  # noqa: BLE001 - as above
        _tell(flavour, logging.WARNING, f"Error while calling comfy_entrypoint in {path}: {error}")
        return False
    wrong = f"comfy_entrypoint in {path} did not return a ComfyExtension, skipping."
    _tell(flavour, logging.WARNING, wrong)
    return False


def _info(name: str, node: Any, module: str) -> dict[str, Any]:
    outputs = list(getattr(node, "RETURN_TYPES", ()))
    return {
        "input": node.INPUT_TYPES(),
        "output": outputs,
        "output_is_list": [False] * len(outputs),
        "output_name": outputs,
        "name": name,
        "display_name": name,
        "description": "",
        "python_module": module,
        "category": getattr(node, "CATEGORY", "sd"),
        "output_node": bool(getattr(node, "OUTPUT_NODE", False)),
    }
