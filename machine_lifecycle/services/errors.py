"""What can go wrong when a service is looked up."""

from __future__ import annotations

from typing import ClassVar

import attrs

from machine_lifecycle.errors import ConfigurationError, Remedy, import_remedies, our_python

__all__ = ["ComfyArgsUnusable", "ModuleMissing", "PluginClash", "ServiceBroken", "ServiceUnknown"]


@attrs.define(kw_only=True, slots=False, eq=False)
class ServiceUnknown(ConfigurationError):
    """Nobody provides a service, connector or installer of this name.

    Attributes:
        kind: ``service``, ``connector`` or ``installer``.
        name: As asked for.
        known: Names there are, in order.
        close: The one that was meant, perhaps; or empty.
    """

    code: ClassVar[str] = "service-unknown"

    kind: str
    name: str
    known: tuple[str, ...]
    close: str = ""

    @property
    def summary(self) -> str:
        """What is unknown, and what there is."""
        return f"no {self.kind} is called `{self.name}`; there are {', '.join(self.known)}"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """The name that was meant; the list; a reference."""
        meant = (Remedy(f"Write `{self.close}`"),) if self.close else ()
        return (
            *meant,
            Remedy("See what is there", "machine-lifecycle services"),
            Remedy("Or install the package that provides it, or write `module:attribute`"),
        )


@attrs.define(kw_only=True, slots=False, eq=False)
class PluginClash(ConfigurationError):
    """Two installed packages provide a service of one name.

    Attributes:
        name: The service.
        distributions: The packages.
    """

    code: ClassVar[str] = "plugin-clash"

    name: str
    distributions: tuple[str, ...]

    @property
    def summary(self) -> str:
        """The name and the packages."""
        return f"`{self.name}` is provided by {' and by '.join(self.distributions)}"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """One of them must go."""
        last = self.distributions[-1].partition(" ")[0]
        command = our_python("-m", "pip", "uninstall", "--yes", last)
        return (Remedy("Uninstall one of them", command),)


@attrs.define(kw_only=True, slots=False, eq=False)
class ModuleMissing(ConfigurationError):
    """A service needs a Python module that is not installed here.

    Attributes:
        service: Who needs it.
        module: Its name.
        package: What pip is to be asked for.
    """

    code: ClassVar[str] = "module-missing"

    service: str
    module: str
    package: str

    @property
    def summary(self) -> str:
        """Who needs what."""
        return f"{self.service} needs the Python module {self.module}, which is not installed"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """Install it."""
        return (Remedy("Install it", our_python("-m", "pip", "install", self.package)),)


@attrs.define(kw_only=True, slots=False, eq=False)
class ServiceBroken(ConfigurationError):
    """A reference to a service can't be followed.

    Attributes:
        reference: ``module:attribute``.
        origin: Who wrote it: WORKERS, the mapping, or a package.
        problem: What happened.
        folder: Where its module lies, if it is not found for want of a path.
    """

    code: ClassVar[str] = "service-broken"

    reference: str
    origin: str
    problem: str
    folder: str = ""

    @property
    def summary(self) -> str:
        """The reference and what happened."""
        return f"`{self.reference}` ({self.origin}): {self.problem}"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """Put it on the path; see it fail alone."""
        return import_remedies(self.reference.partition(":")[0], self.folder)


@attrs.define(kw_only=True, slots=False, eq=False)
class ComfyArgsUnusable(ConfigurationError):
    """``COMFY_ARGS`` can't be handed to ComfyUI.

    Attributes:
        arguments: As written.
        problem: What is wrong with them.
        variable: The variable that says what they tried to say, or empty.
    """

    code: ClassVar[str] = "comfy-args-unusable"

    arguments: str
    problem: str
    variable: str = ""

    @property
    def summary(self) -> str:
        """What was written, and what is wrong with it."""
        return f"COMFY_ARGS can't be used ({self.arguments}): {self.problem}"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """Say it elsewhere, or write it differently."""
        if not self.variable:
            return (Remedy("Write it as a shell would read it", "export COMFY_ARGS='--lowvram'"),)
        examples = {
            "COMFYUI_BASE_PORT": "8188",
            "COMFYUI_LISTEN": "127.0.0.1",
            "CUDA_VISIBLE_DEVICES": "0",
            "WORKSPACE_PATH": "/workspace",
        }
        line = f"export {self.variable}={examples[self.variable]}"
        return (Remedy(f"Take it out of COMFY_ARGS, and set {self.variable} instead", line),)
