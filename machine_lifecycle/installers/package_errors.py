"""What can go wrong while Python packages are installed."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import ClassVar, Self

import attrs

from machine_lifecycle.errors import ConfigurationError, LifecycleError, Remedy
from machine_lifecycle.installers.errors import CommandFailed

__all__ = [
    "PackagesChanged",
    "PackagesFailed",
    "RequirementUnreadable",
    "TorchChanged",
    "TorchIndexUnreachable",
    "TorchMissing",
    "packages_failed",
]

_TORCH_INDEX = re.compile(r"https://download\.pytorch\.org/\S*")
_AT_POSITION = re.compile(r"requirement in `([^`]+)` at position (\d+)")
_AT_LINE = re.compile(r"^error: (.*): ([^:\s][^:]*):(\d+):\d+$", re.MULTILINE)
_PASSES = re.compile(
    r"error sending request|dns error|could not connect|timed out"
    r"|connection (?:reset|closed|refused)|error decoding response body"
    r"|server error \(5\d\d|client error \((?:408|429)",
    re.IGNORECASE,
)
"""uv's words for what another try may mend; what can't be solved, or is not there, stays so."""


@attrs.define(kw_only=True, slots=False, eq=False)
class PackagesFailed(LifecycleError):
    """Python packages could not be installed.

    Attributes:
        what: The requirements, as a file or a list.
        python: The environment's interpreter.
        log: File with all of the output.
    """

    code: ClassVar[str] = "packages-failed"

    what: str
    python: Path
    log: Path

    @classmethod
    def of(cls, error: CommandFailed, what: str, python: Path) -> Self:
        """The error of a program that ended badly."""
        return cls(what=what, python=python, log=error.log, context=error.context[-15:])

    # A fact of the cause, so it shadows the class attribute.
    @property
    def recoverable(self) -> bool:  # type: ignore[override]  # see above
        """Whether it was the network."""
        return any(_PASSES.search(line) for line in self.context)

    @property
    def summary(self) -> str:
        """What could not be installed."""
        return f"could not install {self.what} for {self.python}"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """Where to look; other requirements, or other packages."""
        look = Remedy("Read all of the output", f"cat {shlex.quote(str(self.log))}")
        if any("unsatisfiable" in line for line in self.context):
            return (
                look,
                Remedy(
                    "They exclude each other: take a commit whose requirements agree",
                    "export COMFYUI_COMMIT=COMMIT",
                ),
            )
        return (
            look,
            Remedy(
                "Name an index that has them, or a folder of wheels in UV_FIND_LINKS",
                "export UV_DEFAULT_INDEX=https://HOST/simple",
            ),
        )


@attrs.define(kw_only=True, slots=False, eq=False)
class TorchIndexUnreachable(PackagesFailed):
    """The wanted build of torch is kept at an address of its own, which could not be reached.

    Attributes:
        url: That address.
        backend: The build, in uv's words.
    """

    code: ClassVar[str] = "torch-index-unreachable"

    url: str
    backend: str

    @property
    def summary(self) -> str:
        """Which build, and where it is kept."""
        return f"torch for {self.backend} is kept at {self.url}, which can't be reached"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """Take torch from where the other packages come from, or use one that is there."""
        return (
            Remedy("Take torch from your own index or wheels", "export TORCH_BACKEND=none"),
            Remedy("Or use a Python that has torch", "export COMFYUI_PYTHON=/path/to/bin/python"),
            Remedy("Or see why it can't be reached", f"curl -sSI {self.url}"),
        )


@attrs.define(kw_only=True, slots=False, eq=False)
class RequirementUnreadable(LifecycleError):
    """A line of a requirements file is no requirement, so nothing of the file can be installed.

    Attributes:
        file: The file.
        line: Number of the line, from 1.
        text: The line.
    """

    code: ClassVar[str] = "requirement-unreadable"
    recoverable: ClassVar[bool] = False

    file: Path
    line: int
    text: str

    @property
    def summary(self) -> str:
        """Which line of which file."""
        return f"{self.file} line {self.line} is no requirement: {self.text.strip()[:120]}"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """See the line."""
        file = shlex.quote(str(self.file))
        return (
            Remedy(
                "See the line, and mend it where the file comes from", f"sed -n {self.line}p {file}"
            ),
            Remedy(
                "Or take a commit whose list can be read: COMFYUI_COMMIT, or the pack's `commit`"
            ),
        )


@attrs.define(kw_only=True, slots=False, eq=False)
class PackagesChanged(LifecycleError):
    """A script replaced packages that others need; the versions that were there have been put back.

    Attributes:
        before: Packages and versions, as protected.
        after: What was found of each.
        by: The step that did it.
        python: The environment's interpreter.
        problem: Why they could not be put back; empty: they were.
    """

    code: ClassVar[str] = "packages-changed"
    recoverable: ClassVar[bool] = False

    before: tuple[str, ...]
    after: tuple[str, ...]
    by: str
    python: Path
    problem: str = ""

    @property
    def summary(self) -> str:
        """What changed, and how it is now."""
        one = len(self.before) == 1
        was = ("it was" if one else "all was") + " put back"
        now = f"it could not be put back: {self.problem}" if self.problem else was
        pairs = zip(self.before, self.after, strict=True)
        changes = [f"{before} to {after}" for before, after in pairs]
        more = f" and {len(changes) - 3} more" if len(changes) > 3 else ""  # noqa: PLR2004
        return f"{self.by} changed {', '.join(changes[:3])}{more}; {now}"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """Leave the pack out, or mend its script."""
        what = "torch" if any(one.startswith("torch") for one in self.before) else "them"
        found = [Remedy(f"Take {self.by} out of the list, or keep its script off {what}")]
        if self.problem:
            argv = ("uv", "pip", "install", "--python", str(self.python), *self.before)
            found.insert(0, Remedy("Put back what was there", shlex.join(argv)))
        return tuple(found)


@attrs.define(kw_only=True, slots=False, eq=False)
class TorchChanged(PackagesChanged):
    """An installation replaced torch; the version that was there has been put back."""

    code: ClassVar[str] = "torch-changed"


@attrs.define(kw_only=True, slots=False, eq=False)
class TorchMissing(ConfigurationError):
    """The Python that was named to run ComfyUI has no torch, and it is used as it is.

    Attributes:
        python: The interpreter.
    """

    code: ClassVar[str] = "torch-missing"

    python: Path

    @property
    def summary(self) -> str:
        """Which Python."""
        return f"COMFYUI_PYTHON={self.python} has no torch"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """Install it there, or let an environment be made."""
        argv = ("uv", "pip", "install", "--python", str(self.python), "torch")
        words = shlex.join((*argv, "torchvision", "torchaudio", "--torch-backend", "auto"))
        return (
            Remedy("Install torch there", words),
            Remedy("Or let the machine make an environment of its own", "unset COMFYUI_PYTHON"),
        )


def packages_failed(error: CommandFailed, what: str, python: Path, backend: str) -> LifecycleError:
    """Why uv could not install *what*, as far as its words tell.

    Args:
        error: Of uv.
        what: The requirements, as a file or a list.
        python: The environment's interpreter.
        backend: Build of torch that was asked for.
    """
    text = "\n".join(error.context)
    if place := _unreadable(text):
        return place
    if backend and (url := _TORCH_INDEX.search(text)) and "Failed to fetch" in text:
        return TorchIndexUnreachable(
            what=what,
            python=python,
            log=error.log,
            context=error.context[-15:],
            url=url[0].rstrip("`),."),
            backend=backend,
        )
    return PackagesFailed.of(error, what, python)


def _unreadable(text: str) -> RequirementUnreadable | None:
    try:
        if found := _AT_POSITION.search(text):
            file = Path(found[1])
            line = file.read_bytes()[: int(found[2])].count(b"\n") + 1
        elif found := _AT_LINE.search(text):
            file, line = Path(found[2]), int(found[3])
        else:
            return None
        words = file.read_text("utf-8", "replace").splitlines()[line - 1]
    except (OSError, IndexError):
        return None
    context = tuple(one for one in text.splitlines() if "cause:" in one)[:1]
    return RequirementUnreadable(file=file, line=line, text=words, context=context)
