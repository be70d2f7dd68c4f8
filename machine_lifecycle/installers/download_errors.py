"""What can go wrong while a file is downloaded and put in its place."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import ClassVar

import attrs

from machine_lifecycle.errors import ConfigurationError, LifecycleError, Remedy
from machine_lifecycle.model.text import human_bytes

__all__ = [
    "DownloadDiffers",
    "DownloadInterrupted",
    "DownloadMissing",
    "DownloadRefused",
    "ModelInTheWay",
    "NoModelList",
]


@attrs.define(kw_only=True, slots=False, eq=False)
class DownloadInterrupted(LifecycleError):
    """A download broke off, or did not begin. What came is kept, and the next try goes on there.

    Attributes:
        url: Where from, without login and query.
        problem: What happened.
        have: Bytes that came so far.
    """

    code: ClassVar[str] = "download-interrupted"

    url: str
    problem: str
    have: int = 0

    @property
    def summary(self) -> str:
        """What, and how far it got."""
        so_far = f" after {human_bytes(self.have)}" if self.have else ""
        return f"{self.url} broke off{so_far}: {self.problem}"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """Try by hand; go on."""
        return (
            Remedy("See whether it answers", f"curl -fIL {shlex.quote(self.url)}"),
            Remedy("Then go on; what came is kept", "machine-lifecycle install"),
        )


@attrs.define(kw_only=True, slots=False, eq=False)
class DownloadRefused(LifecycleError):
    """The server wants a login, or does not let this one have the file.

    Attributes:
        url: Where from, without login and query.
        problem: Its answer.
        token: The variable with the token for this host; empty: none is known.
        given: Whether one was sent.
    """

    code: ClassVar[str] = "download-refused"
    recoverable: ClassVar[bool] = False

    url: str
    problem: str
    token: str = ""
    given: bool = False

    @property
    def summary(self) -> str:
        """Which file, and the answer."""
        how = "with a token" if self.given else "without a login"
        return f"{self.url} is not given out {how}: {self.problem}"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """A token; the terms of use."""
        page = self.url.partition("/resolve/")[0]
        found = [
            Remedy("Accept its terms in a browser, if it has some, as the token's owner: " + page)
        ]
        if self.token and not self.given:
            found.insert(0, Remedy("Give a token", f"export {self.token}=YOUR_TOKEN"))
        elif self.token:
            found.append(Remedy("Or give another token", f"export {self.token}=YOUR_TOKEN"))
        return tuple(found)


@attrs.define(kw_only=True, slots=False, eq=False)
class DownloadMissing(LifecycleError):
    """The server has no such file.

    Attributes:
        url: Where from, without login and query.
        problem: Its answer.
    """

    code: ClassVar[str] = "download-not-found"
    recoverable: ClassVar[bool] = False

    url: str
    problem: str

    @property
    def summary(self) -> str:
        """Which file, and the answer."""
        return f"{self.url} is not to be had: {self.problem}"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """Look for it."""
        return (Remedy("Correct its `url` in the list of models"),)


@attrs.define(kw_only=True, slots=False, eq=False)
class DownloadDiffers(LifecycleError):
    """What came is not the file of the list. Nothing of it is kept.

    Attributes:
        url: Where from, without login and query.
        problem: What differs: both digests, or both sizes.
    """

    code: ClassVar[str] = "download-differs"
    recoverable: ClassVar[bool] = False

    url: str
    problem: str

    @property
    def summary(self) -> str:
        """Which file, and what differs."""
        return f"{self.url} is another file than the list says: {self.problem}"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """See which of both is right."""
        line = f"curl -L {shlex.quote(self.url)} | sha256sum"
        return (
            Remedy("If its makers changed it, write the new `sha256` and `size` into the list"),
            Remedy("See what comes elsewhere", line),
        )


@attrs.define(kw_only=True, slots=False, eq=False)
class ModelInTheWay(LifecycleError):
    """Another file, which nobody of us put there, has the name of a model of the list.

    Attributes:
        path: The file.
        problem: How it differs from the model.
    """

    code: ClassVar[str] = "model-in-the-way"
    recoverable: ClassVar[bool] = False

    path: Path
    problem: str

    @property
    def summary(self) -> str:
        """Which file, and how it differs."""
        return f"{self.path} is another file than the list says, and is left alone: {self.problem}"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """Put it aside."""
        path = str(self.path)
        aside = f"mv {shlex.quote(path)} {shlex.quote(path + '.mine')}"
        return (Remedy("Put it aside", aside), Remedy("Or name another `target` in the list"))


@attrs.define(kw_only=True, slots=False, eq=False)
class NoModelList(ConfigurationError):
    """There is no file with a list of models that could be written to."""

    code: ClassVar[str] = "model-list-missing"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """Name one."""
        return (Remedy("Name the list of models", "export MODELS_MANIFEST=models.json"),)
