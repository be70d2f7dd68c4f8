"""What an installer is told and what it says: the steps of an installation."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import attrs

from machine_lifecycle.model.hardware import Hardware
from machine_lifecycle.model.paths import Paths
from machine_lifecycle.model.settings import Settings

__all__ = [
    "DOWNLOADS",
    "CommandResult",
    "InstallContext",
    "Installer",
    "RunCommand",
    "Step",
    "StepContext",
]

DOWNLOADS = "downloads"
"""The lane of steps that wait for large files, and need nothing else."""


@attrs.frozen(kw_only=True)
class InstallContext:
    """All that the steps of a service may depend on.

    Attributes:
        service: Name of the service.
        options: The mapping's ``installer_config``, expanded.
        settings: The machine's settings.
        environ: The machine's environment, for node packs' ``.env`` files and for the programs
            that are run. Holds secrets, so it is never shown.
        hardware: As detected.
        paths: The machine's folders.
    """

    service: str
    options: Mapping[str, str] = attrs.field(factory=dict)
    settings: Settings = attrs.field(factory=Settings)
    environ: Mapping[str, str] = attrs.field(factory=dict, repr=False)
    hardware: Hardware = Hardware()
    paths: Paths

    @property
    def home(self) -> Path:
        """The folder the service is installed in."""
        return self.paths.service(self.service)


@attrs.frozen(kw_only=True)
class CommandResult:
    """How a program ended.

    Attributes:
        status: Its exit status; negative for a signal.
        output: What it wrote on stdout, at most the last MiB.
        tail: Last lines of stdout and stderr, secrets masked.
        seconds: How long it ran.
    """

    status: int
    output: str
    tail: tuple[str, ...]
    seconds: float


class RunCommand(Protocol):
    """Runs a program to its end."""

    async def __call__(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - the child's tree is ended at the limit
        check: bool = True,
    ) -> CommandResult:
        """Run *argv* with exactly *env*. Called by steps, several at once by different steps.

        Raises a ``LifecycleError`` if the program is missing, ends with another status than 0
        (only if *check*) or runs longer than *timeout* seconds. Cancelling ends its whole tree.
        """


@attrs.frozen(kw_only=True)
class StepContext:
    """What a running step is given.

    Attributes:
        report: Takes a line of progress, for people.
        run_command: Runs a program whose output goes to the step's log.
    """

    report: Callable[[str], None]
    run_command: RunCommand


def _present() -> bool:
    return True


async def _nothing(_: StepContext) -> None:
    """Nothing is left half done."""


@attrs.frozen(kw_only=True)
class Step:
    """One step of an installation. ``run`` is called at most once per boot, but for retries, and
    again at the next boot if it was cut short: it must repair what it left half done.

    Attributes:
        id: Unique within the service.
        summary: For people.
        fingerprint: Changes when the step must be done again; a matching stamp skips it, unless a
            step that it needs was done again since.
        needs: Ids of steps that must be done first; when one is done again, so is this one.
        after: Ids of steps that must be done first, and no more than that.
        timeout: Seconds for one try.
        required: Whether its failure fails the boot.
        stage: ``lock`` (first in Installing; the others are planned anew after it), ``base``
            (Installing) or ``nodes`` (CustomNodes).
        run: Does it.
        retries: Further tries after a failure that another try could mend.
        exclusive: Steps with the same word here run one at a time; empty: no bound.
        lane: Steps with the same word here have places of their own among those that run at once,
            so that long ones hold up no others; empty: the places of all.
        subject: What of the service it installs, such as a node pack; empty for the service itself.
        present: Whether what it made is still there; a quick look, called before it is skipped.
        space: Bytes that it takes on disk, roughly; told when a disk is full. 0: not known.
        makes: Whether it makes something; one that only looks does not count as done.
        programs: That it runs, and that the machine has to have.
        repair: Puts right what ``run`` leaves half done when it is cut short by a limit and the
            installation goes on without it.
    """

    id: str
    summary: str
    fingerprint: str
    needs: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    timeout: float = 600.0
    required: bool = True
    stage: str = "base"
    run: Callable[[StepContext], Awaitable[None]]
    retries: int = 0
    exclusive: str = ""
    lane: str = ""
    subject: str = ""
    present: Callable[[], bool] = _present
    space: int = 0
    makes: bool = True
    programs: tuple[str, ...] = ()
    repair: Callable[[StepContext], Awaitable[None]] = _nothing


class Installer(Protocol):
    """Says what must be done; never does it."""

    def plan(self, context: InstallContext) -> tuple[Step, ...]:
        """The steps of all stages, each after those it needs. Called once per boot attempt and
        stage; equal contexts give equal steps. May read files. Raises a ``LifecycleError``.
        """
