"""The worker bundle: connectors that a site ships beside this package."""

from __future__ import annotations

from pathlib import Path

import attrs

__all__ = ["BUNDLE_FOLDER", "BundledConnector", "WorkerBundle"]

BUNDLE_FOLDER = "WORKER_BUNDLE_FOLDER"
"""The variable that tells a worker the folder to put at the end of its path."""


@attrs.frozen(kw_only=True)
class BundledConnector:
    """A connector that a bundle offers.

    Attributes:
        name: By which a service mapping asks for it.
        reference: ``module:attribute``.
        distribution: The package in the bundle that offers it.
        version: Of that package.
    """

    name: str
    reference: str
    distribution: str
    version: str


@attrs.frozen(kw_only=True)
class WorkerBundle:
    """What workers can load beside what is installed.

    Attributes:
        mode: ``local`` or ``remote``.
        source: Folder or URL that it comes from, without credentials.
        sha256: Hex digest: of the archive, or of a folder's names and contents.
        folder: Where it lies in the workspace; named by its digest, so that a changed bundle starts
            workers anew.
        connectors: What it offers.
    """

    mode: str
    source: str
    sha256: str
    folder: Path
    connectors: tuple[BundledConnector, ...] = ()
