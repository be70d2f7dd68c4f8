"""What the steps of an installation have in common: their outcome, their order, their stamps."""

from __future__ import annotations

import hashlib
import importlib
import json
import secrets
from collections.abc import Mapping, Sequence
from enum import Enum
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import cast
from urllib.parse import quote

import attrs

from machine_lifecycle.errors import LifecycleError
from machine_lifecycle.installers.errors import InstallerBroken
from machine_lifecycle.model.installing import Installer, Step
from machine_lifecycle.system.files import write_atomically

__all__ = [
    "Stamps",
    "StepOutcome",
    "StepStatus",
    "check_steps",
    "file_name",
    "fingerprint",
    "load_installer",
]


_NAME_MAX = 200
"""Letters of a file's name: file systems take 255, and endings follow."""


class StepStatus(Enum):
    """How a step ended."""

    DONE = "done"
    SKIPPED = "skipped"
    FAILED = "failed"
    BLOCKED = "blocked"


@attrs.frozen(kw_only=True)
class StepOutcome:
    """How one step ended.

    Attributes:
        service: Name of the service.
        step: Id of the step.
        subject: What of the service it installs, such as a node pack; else empty.
        status: ``blocked``: a step that it needs failed.
        required: Whether its failure fails the boot.
        seconds: How long it took.
        error: Why it failed.
    """

    service: str
    step: str
    subject: str
    status: StepStatus
    required: bool
    seconds: float = 0.0
    error: LifecycleError | None = None


def fingerprint(*parts: object) -> str:
    """A short digest of *parts*, the same for equal text forms in the same order."""
    text = json.dumps([str(part) for part in parts])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def file_name(text: str) -> str:
    """*text* as the name of one file, whatever it holds; the end of a long one is a digest."""
    name = quote(text, safe="")
    return name if len(name) <= _NAME_MAX else f"{name[: _NAME_MAX // 2]}-{fingerprint(text)}"


def load_installer(name: str) -> Installer:
    """The installer that ``module:attribute`` names; a class is called without arguments.

    Raises:
        InstallerBroken: It is not there, or can't be imported.
    """
    module, _, attribute = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
        made = found() if isinstance(found, type) else found
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise InstallerBroken(installer=name, problem=str(error)) from error
    if not callable(getattr(made, "plan", None)):
        raise InstallerBroken(installer=name, problem="it has no method named plan")
    return cast("Installer", made)


def check_steps(name: str, steps: Sequence[Step]) -> None:
    """Check that ids are unique, needs are there and no step needs itself.

    Raises:
        InstallerBroken: Naming what is wrong.
    """
    ids = [step.id for step in steps]
    if len(set(ids)) < len(ids):
        twice = sorted({one for one in ids if ids.count(one) > 1})
        raise InstallerBroken(installer=name, problem=f"ids used twice: {', '.join(twice)}")
    for step in steps:
        if missing := [need for need in (*step.needs, *step.after) if need not in ids]:
            problem = f"step {step.id} needs {', '.join(missing)}, which is not there"
            raise InstallerBroken(installer=name, problem=problem)
    optional = {step.id for step in steps if not step.required}
    for step in steps:
        if step.required and (loose := optional.intersection((*step.needs, *step.after))):
            problem = f"required step {step.id} needs optional {', '.join(sorted(loose))}"
            raise InstallerBroken(installer=name, problem=problem)
    try:
        before = {step.id: (*step.needs, *step.after) for step in steps}
        TopologicalSorter(before).prepare()
    except CycleError as error:
        problem = "steps need each other: " + " → ".join(error.args[1])
        raise InstallerBroken(installer=name, problem=problem) from error


class Stamps:
    """What is done of a service, in files beside it: one per step, written after its success.

    A stamp holds the step's fingerprint, a token drawn when it was done, and the tokens of the
    steps it needed: when one of those is done again, the step is done again too.
    """

    def __init__(self, home: Path) -> None:
        self.folder: Path = home / ".machine-lifecycle" / "stamps"

    def _path(self, step: str) -> Path:
        return self.folder / f"{file_name(step)}.json"

    def _read(self, step: str) -> Mapping[str, object]:
        try:
            value = json.loads(self._path(step).read_text("utf-8"))
        except (OSError, ValueError):
            return {}  # no stamp, or one cut short by a crash of the machine: the step is not done
        return value if isinstance(value, dict) else {}

    def token(self, step: str) -> str:
        """The token drawn when the step was last done; empty if it was not."""
        return str(self._read(step).get("token", ""))

    def done(self, step: Step) -> bool:
        """Whether the step is done as it is wanted now, and what it made is still there."""
        stamp = self._read(step.id)
        return (
            stamp.get("fingerprint") == step.fingerprint
            and stamp.get("needs") == {need: self.token(need) for need in step.needs}
            and step.present()
        )

    def write(self, step: Step) -> None:
        """Say that the step is done."""
        self.folder.mkdir(parents=True, exist_ok=True)
        stamp = {
            "fingerprint": step.fingerprint,
            "token": secrets.token_hex(8),
            "needs": {need: self.token(need) for need in step.needs},
        }
        # One that a crash cut short is read as none.
        write_atomically(self._path(step.id), json.dumps(stamp, indent=1) + "\n", durable=False)

    def remove(self, step: str) -> None:
        """Say that the step is not done: it is being done again."""
        self._path(step).unlink(missing_ok=True)
