"""``machine-lifecycle models``: what is there of a list, and digests that were missing in it."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from machine_lifecycle.errors import ExitCode
from machine_lifecycle.installers.models_folder import Shelf
from machine_lifecycle.installers.partial_file import File
from tests.support.file_server import FileServer, serving_files

DATA = b"model" * 1000
SHA = hashlib.sha256(DATA).hexdigest()


@attrs.frozen
class Person:
    root: Path
    server: FileServer

    @property
    def path(self) -> Path:
        return self.root / "models.json"

    @property
    def models(self) -> Path:
        return self.root / "ws" / "ComfyUI" / "models"

    def lists(self, *entries: dict[str, Any]) -> None:
        self.path.write_text(json.dumps({"comment": "ours", "models": entries}))
        self.path.chmod(0o600)

    async def calls(self, *words: str, **environ: str) -> tuple[int, str, str]:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "machine_lifecycle", "models", *words),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=self.root,
            env={
                "PATH": os.defpath,
                "HOME": str(self.root),
                "WORKSPACE_PATH": str(self.root / "ws"),
                "MODELS_MANIFEST": str(self.path),
                **environ,
            },
        )
        out, err = await process.communicate()
        assert process.returncode is not None
        return process.returncode, out.decode(), err.decode()


@pytest.fixture
async def person(tmp_path: Path) -> AsyncIterator[Person]:
    async with serving_files() as server:
        yield Person(tmp_path, server)


async def test_the_list_is_shown_with_what_is_there(person: Person) -> None:
    url = person.server.url("m") + "?key=s3cret"
    names = ("there", "missing", "partial", "other")
    person.lists(*({"url": url, "target": f"loras/{name}", "sha256": SHA} for name in names))
    shelf = Shelf(person.models)
    (person.models / "loras").mkdir(parents=True)
    (person.models / ".machine-lifecycle").mkdir()
    for name in ("there", "other"):
        shelf.path(f"loras/{name}").write_bytes(DATA)
    file = File(url=url, sha256=SHA)
    shelf.note("loras/there", file.identity, SHA)
    partial = file.partial(shelf.partial("loras/partial"))
    partial.start({"ETag": '"1"'})
    partial.path.write_bytes(DATA[:2048])
    status, out, _ = await person.calls()
    assert status == 0
    rows = {line.split()[0]: line.split()[1:] for line in out.splitlines()[1:]}
    assert {name: row[0] for name, row in rows.items()} == {
        "loras/there": "there",
        "loras/missing": "missing",
        "loras/partial": "partial",
        "loras/other": "unproved",
    }
    assert rows["loras/partial"][1:3] == ["2.0", "KiB"]
    status, out, _ = await person.calls("--json")
    assert [one["state"] for one in json.loads(out)] == ["there", "missing", "partial", "unproved"]
    assert "s3cret" not in out
    assert person.server.asked == []


async def test_digests_come_from_files_that_are_there_and_from_servers_that_tell(
    person: Person,
) -> None:
    shelf = Shelf(person.models)
    (person.models / "loras").mkdir(parents=True)
    (person.models / ".machine-lifecycle").mkdir()
    url = person.server.url("m")
    shelf.path("loras/there").write_bytes(DATA)
    shelf.note("loras/there", File(url=url).identity, SHA)
    told = {"X-Linked-ETag": f'"{"cd" * 32}"', "X-Linked-Size": "7", "Location": "/elsewhere"}
    person.server.add("o/n/resolve/main/f", b"", answers=[(302, told)] * 2)
    person.server.add("plain", DATA)
    hub = "https://huggingface.co/o/n/resolve/main/f"
    person.lists(
        {"url": url, "target": "loras/there"},
        {"url": hub, "target": "loras/", "description": "kept"},
        {"url": person.server.url("plain"), "target": "loras/plain"},
        {"url": person.server.url("gone"), "target": "loras/gone"},
        {"url": url, "target": "loras/pinned", "sha256": SHA},
    )
    environ = {"HF_ENDPOINT": person.server.url("").rstrip("/"), "HF_TOKEN": "hf-s3cret"}
    before = person.path.read_text()
    status, out, _ = await person.calls("--pin", "--dry-run", **environ)
    assert (status, person.path.read_text()) == (0, before)
    status, out, err = await person.calls("--pin", **environ)
    assert status == 0, err
    assert f"+ loras/there {SHA}, 4.9 KiB" in out
    assert f"+ loras/f {'cd' * 32}, 7 B" in out
    assert "! loras/plain: its server does not tell" in out
    assert "! loras/gone: " in out
    assert "2 are pinned" in out
    assert "hf-s3cret" not in out + err
    value = json.loads(person.path.read_text())
    assert value["comment"] == "ours"
    assert value["models"][0] == {
        "url": url,
        "target": "loras/there",
        "sha256": SHA,
        "size": len(DATA),
    }
    assert value["models"][1] == {
        "url": hub,
        "target": "loras/",
        "description": "kept",
        "sha256": "cd" * 32,
        "size": 7,
    }
    assert "sha256" not in value["models"][2]
    assert person.path.stat().st_mode & 0o777 == 0o600
    assert all("Bearer" in h.get("Authorization", "") for p, h in person.server.asked if "o/n" in p)
    assert not any(path == "elsewhere" for path, _ in person.server.asked)


async def test_without_a_list_there_is_nothing_to_pin(person: Person) -> None:
    status, out, _ = await person.calls("--json", MODELS_MANIFEST="")
    assert (status, json.loads(out)) == (0, [])
    status, _, err = await person.calls("--pin", MODELS_MANIFEST="")
    assert status == ExitCode.CONFIGURATION
    assert "model-list-missing" in err
