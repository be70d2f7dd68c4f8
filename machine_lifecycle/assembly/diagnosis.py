"""The file of a diagnosis: texts in an archive, without secrets."""

from __future__ import annotations

import io
import tarfile
import time
from collections.abc import Mapping
from pathlib import Path

from machine_lifecycle.installers.command import Redactor
from machine_lifecycle.model.redaction import names_secret
from machine_lifecycle.system.files import asked_for, replacing

__all__ = ["write_bundle"]


def write_bundle(
    target: Path, parts: Mapping[str, str], environ: Mapping[str, str], secrets: Mapping[str, str]
) -> int:
    """Write an archive (``.tar.gz``, 0600) with these texts; how many there are.

    Args:
        target: The file; an older one is replaced.
        parts: File names and texts.
        environ: The environment: values of variables that are named like secrets are masked.
        secrets: Values of settings that are secrets, likewise.

    Raises:
        FileNotWritten: It can't be written there.
    """
    named = [value for name, value in environ.items() if names_secret(name)]
    redact = Redactor((*named, *secrets.values()))
    folder = target.name.removesuffix(".gz").removesuffix(".tar")
    with (
        asked_for(target),
        replacing(target, 0o600) as file,
        tarfile.open(fileobj=file, mode="w:gz") as archive,
    ):
        for part, text in parts.items():
            data = redact(text).encode(errors="replace")  # a path may be no text
            entry = tarfile.TarInfo(f"{folder}/{part}")
            entry.size, entry.mtime, entry.mode = len(data), int(time.time()), 0o600
            archive.addfile(entry, io.BytesIO(data))
    return len(parts)
