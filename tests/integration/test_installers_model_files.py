"""The models of a list, brought by the installation's own steps from a real web server."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from machine_lifecycle.errors import Problems
from machine_lifecycle.installers.base import StepStatus
from machine_lifecycle.installers.download_errors import ModelInTheWay
from machine_lifecycle.installers.errors import ModelsFolderUnusable
from machine_lifecycle.installers.execute import Executor
from machine_lifecycle.installers.folder_lock import held
from machine_lifecycle.installers.model_files import ModelFiles
from machine_lifecycle.installers.models import Models
from machine_lifecycle.installers.models_folder import Shelf
from machine_lifecycle.installers.partial_file import File
from machine_lifecycle.model.installing import InstallContext, Step
from machine_lifecycle.model.paths import Paths
from machine_lifecycle.model.plan import InstallPlan
from machine_lifecycle.model.settings import Settings
from machine_lifecycle.system.errors import FileNotRead
from tests.support.file_server import FileServer, serving_files
from tests.support.progress import KeptProgress

DATA = os.urandom(200_000)


class OnlyModels:
    """What ComfyUI's installer plans for its models, without a ComfyUI."""

    def plan(self, context: InstallContext) -> tuple[Step, ...]:
        folders = attrs.evolve(Models.of(context).step(), needs=())
        return (folders, *ModelFiles.of(context).steps())


@attrs.define
class Bed:
    """A list of models, and a workspace."""

    root: Path
    server: FileServer
    options: dict[str, str] = attrs.field(factory=dict)
    more: dict[str, Any] = attrs.field(factory=dict)
    lines: list[str] = attrs.field(factory=list)

    @property
    def paths(self) -> Paths:
        return Paths(workspace=self.root / "ws", runtime=self.root / "rt")

    @property
    def models(self) -> Path:
        return self.paths.service("comfyui") / "models"

    @property
    def settings(self) -> Settings:
        return Settings(models_manifest=self.root / "models.json", **self.more)

    def entry(self, target: str, data: bytes = DATA, **more: Any) -> dict[str, Any]:
        served = self.server.add(target, data)
        plain = {"url": self.server.url(target), "sha256": served.sha256, "size": len(data)}
        return {"target": target, **plain, **more}

    def lists(self, *entries: dict[str, Any]) -> None:
        known = [{k: v for k, v in entry.items() if v is not None} for entry in entries]
        (self.root / "models.json").write_text(json.dumps({"models": known}), "utf-8")

    async def install(self) -> Executor:
        run = Executor(
            self.paths, settings=self.settings, resolve=lambda _: OnlyModels(), retry_wait=0.001
        )
        plan = InstallPlan(service="comfyui", installer="models", options=self.options)
        sink = KeptProgress()
        try:
            await run.install(plan, "base", sink)
        finally:
            self.lines = sink.lines
        return run

    async def differences(self) -> dict[str, str]:
        context = InstallContext(
            service="comfyui", options=self.options, settings=self.settings, paths=self.paths
        )
        found = ModelFiles.of(context).differences(lambda _: None)
        return {target: problem async for target, problem in found}

    def asked(self) -> list[str]:
        return [path for path, _ in self.server.asked]


@pytest.fixture
async def bed(tmp_path: Path) -> AsyncIterator[Bed]:
    async with serving_files() as server:
        yield Bed(tmp_path, server)


async def test_they_are_brought_at_once_checked_and_never_again(bed: Bed) -> None:
    names = [f"checkpoints/m{number}.safetensors" for number in range(8)]
    bed.lists(*(bed.entry(name) for name in names))
    bed.server.crowd = Settings().models_concurrency
    run = await bed.install()
    assert run.failures == ()
    assert all((bed.models / name).read_bytes() == DATA for name in names)
    assert bed.server.most_at_once == Settings().models_concurrency
    assert await bed.differences() == {}
    asked = len(bed.server.asked)
    again = await bed.install()
    assert {one.status for one in again.outcomes} == {StepStatus.SKIPPED}
    assert len(bed.server.asked) == asked
    # Nothing is left beside them.
    assert {path.name for path in (bed.models / "checkpoints").iterdir()} == {
        Path(name).name for name in names
    }


async def test_long_downloads_hold_up_no_other_step(bed: Bed) -> None:
    bed.lists(*(bed.entry(f"loras/{number}") for number in range(6)))
    bed.more = {"install_concurrency": 1, "models_concurrency": 2}
    stall = asyncio.Event()
    bed.server.crowd = 2
    for served in bed.server.files.values():
        served.stall = stall
    installer = OnlyModels()
    began: list[str] = []

    class WithAnother:
        def plan(self, context: InstallContext) -> tuple[Step, ...]:
            async def run(_: object) -> None:
                began.append("other")
                stall.set()

            steps = installer.plan(context)
            return (*steps, Step(id="other", summary="", fingerprint="", run=run))

    run = Executor(bed.paths, settings=bed.settings, resolve=lambda _: WithAnother())
    plan = InstallPlan(service="comfyui", installer="models")
    await run.install(plan, "base", KeptProgress())
    assert began == ["other"]
    assert bed.server.most_at_once == 2


async def test_one_that_fails_costs_itself_alone(bed: Bed) -> None:
    bed.lists(bed.entry("loras/good"), bed.entry("loras/bad"), bed.entry("vae/must", required=True))
    del bed.server.files["loras/bad"]
    run = await bed.install()
    (failure,) = run.failures
    assert failure.step == "model loras/bad"
    assert failure.error is not None
    assert failure.error.code == "download-not-found"
    assert (bed.models / "loras/good").exists()
    assert not (bed.models / "loras/bad").exists()
    assert await bed.differences() == {"loras/bad": f"is not there: {bed.models / 'loras/bad'}"}
    # A required one fails the boot.
    (bed.models / "vae/must").unlink()
    del bed.server.files["vae/must"]
    with pytest.raises(Problems, match="download-not-found"):
        await bed.install()


async def test_a_new_version_in_the_list_replaces_the_old_one_of_ours(bed: Bed) -> None:
    bed.lists(bed.entry("loras/m"))
    await bed.install()
    other = os.urandom(1000)
    bed.lists(bed.entry("loras/m", other))
    await bed.install()
    assert (bed.models / "loras/m").read_bytes() == other
    # Without a digest the address is all that tells.
    bed.lists(bed.entry("loras/n", sha256=None, size=None))
    await bed.install()
    moved = {**bed.entry("x/y", other, sha256=None, size=None), "target": "loras/n"}
    bed.lists(moved)
    await bed.install()
    assert (bed.models / "loras/n").read_bytes() == other


async def test_a_digest_that_the_list_gets_later_brings_nothing_anew(bed: Bed) -> None:
    bed.lists(bed.entry("loras/m", sha256=None, size=None))
    await bed.install()
    bed.lists(bed.entry("loras/m"))
    await bed.install()
    assert bed.asked() == ["loras/m"]
    assert {one.status for one in (await bed.install()).outcomes} == {StepStatus.SKIPPED}
    # Another one than came is another model.
    bed.lists(bed.entry("loras/m", DATA[::-1]))
    await bed.install()
    assert (bed.models / "loras/m").read_bytes() == DATA[::-1]


async def test_names_that_get_long_where_they_are_written_otherwise(bed: Bed) -> None:
    target = f"loras/{'模' * 60}/{'型' * 60}.safetensors"
    bed.lists(bed.entry(target, required=True))
    await bed.install()
    assert (bed.models / target).read_bytes() == DATA
    assert {one.status for one in (await bed.install()).outcomes} == {StepStatus.SKIPPED}


async def test_a_file_of_the_users_stays(bed: Bed) -> None:
    path = bed.models / "loras/m"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"mine")
    bed.lists(bed.entry("loras/m", required=True))
    with pytest.raises(Problems) as caught:
        await bed.install()
    (error,) = caught.value.errors
    assert isinstance(error, ModelInTheWay)
    assert "has 4 bytes, not 200,000" in error.summary
    assert f"mv {path} {path}.mine" in str(error)
    assert path.read_bytes() == b"mine"
    path.write_bytes(DATA[:-1] + bytes([DATA[-1] ^ 1]))
    with pytest.raises(Problems, match="has the SHA-256"):
        await bed.install()
    # The same bytes are the model, whoever put them there: nobody is asked for it.
    path.write_bytes(DATA)
    await bed.install()
    assert bed.asked() == []
    # One of ours that was changed by hand is the user's from then on.
    path.write_bytes(b"mine again")
    with pytest.raises(Problems, match="model-in-the-way"):
        await bed.install()
    assert path.read_bytes() == b"mine again"
    assert "has 10 bytes" in (await bed.differences())["loras/m"]


async def test_one_that_is_gone_comes_again_and_an_empty_one_is_none(bed: Bed) -> None:
    bed.lists(bed.entry("loras/m", sha256=None, size=None))
    await bed.install()
    (bed.models / "loras/m").unlink()
    await bed.install()
    assert (bed.models / "loras/m").read_bytes() == DATA
    (bed.models / "loras/m").write_bytes(b"")
    run = await bed.install()
    assert [str(one.error).count("is empty") for one in run.failures] == [1]


async def test_verify_reads_all_bytes(bed: Bed) -> None:
    bed.lists(bed.entry("loras/m"), bed.entry("loras/n", sha256=None))
    await bed.install()
    for name in ("m", "n"):
        path = bed.models / "loras" / name
        stat = path.stat()
        with path.open("r+b") as file:
            file.write(b"x")
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # as a bad disk would: unseen
    found = await bed.differences()
    assert {name: words[:15] for name, words in found.items()} == {
        "loras/m": "has the SHA-256",
        "loras/n": "has the SHA-256",
    }


async def test_workspaces_share_a_cache(bed: Bed, tmp_path: Path) -> None:
    bed.more = {"models_cache": tmp_path / "cache"}
    bed.lists(bed.entry("loras/m"), bed.entry("loras/unknown", sha256=None))
    await bed.install()
    stored = next((tmp_path / "cache").rglob(bed.server.files["loras/m"].sha256))
    assert stored.stat().st_ino == (bed.models / "loras/m").stat().st_ino
    assert any("is a hard link to" in line for line in bed.lines)
    (tmp_path / "other").mkdir()
    (tmp_path / "models.json").rename(tmp_path / "other" / "models.json")
    other = attrs.evolve(bed, root=tmp_path / "other")
    await other.install()
    assert bed.asked().count("loras/m") == 1
    assert bed.asked().count("loras/unknown") == 2  # what has no digest is nobody else's
    assert (other.models / "loras/m").stat().st_nlink == 3
    assert await other.differences() == {}


async def test_a_cache_on_another_disk_gives_symbolic_links(bed: Bed, tmp_path: Path) -> None:
    shared = Path("/dev/shm")  # noqa: S108 - another disk, where there is one
    if not shared.is_dir() or shared.stat().st_dev == tmp_path.stat().st_dev:  # noqa: ASYNC240 - once
        pytest.skip("there is no other disk")
    cache = shared / f"machine-lifecycle-test-{os.getpid()}"
    bed.more = {"models_cache": cache}
    try:
        bed.lists(bed.entry("loras/m"))
        await bed.install()
        path = bed.models / "loras/m"
        assert path.is_symlink()
        assert path.read_bytes() == DATA
        assert await bed.differences() == {}
        # The cache was thrown away: what points to nowhere is no model.
        path.readlink().unlink()
        await bed.install()
        assert path.read_bytes() == DATA
    finally:
        import shutil  # noqa: PLC0415 - for this one

        shutil.rmtree(cache, ignore_errors=True)


async def test_two_machines_with_one_cache_download_once(bed: Bed, tmp_path: Path) -> None:
    bed.more = {"models_cache": tmp_path / "cache"}
    bed.lists(bed.entry("loras/m"))
    stall = bed.server.files["loras/m"].stall = asyncio.Event()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "models.json").write_bytes((tmp_path / "models.json").read_bytes())
    other = attrs.evolve(bed, root=tmp_path / "other")
    first = asyncio.create_task(bed.install())
    second = asyncio.create_task(other.install())
    while not bed.server.asked:  # noqa: ASYNC110 - two installations, one of which asks
        await asyncio.sleep(0)
    stall.set()
    await asyncio.gather(first, second)
    assert bed.asked() == ["loras/m"]
    assert any("another machine brings it" in line for line in (*bed.lines, *other.lines))
    assert (other.models / "loras/m").read_bytes() == DATA


async def test_a_folder_beside_gets_them_and_one_that_can_only_be_read_has_them(
    bed: Bed, tmp_path: Path
) -> None:
    beside = tmp_path / "volume"
    bed.options = {"models_path": str(beside)}
    bed.lists(bed.entry("loras/m"))
    await bed.install()
    assert (beside / "loras/m").read_bytes() == DATA
    assert not (bed.models / "loras/m").exists()
    # Another machine, which mounts the same volume, asks nobody.
    other = attrs.evolve(bed, root=tmp_path / "other")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "models.json").write_bytes((tmp_path / "models.json").read_bytes())
    await other.install()
    assert bed.asked() == ["loras/m"]


async def test_a_shelf_that_can_only_be_read(bed: Bed) -> None:
    shelf = Shelf(Path("/proc/sys"))
    assert shelf.fixed
    assert not Shelf(bed.models / "nowhere").fixed


async def test_a_cache_that_can_not_be_made(bed: Bed, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    bed.more = {"models_cache": tmp_path / "file" / "cache"}
    bed.lists(bed.entry("loras/m", required=True))
    with pytest.raises(Problems) as caught:
        await bed.install()
    (error,) = caught.value.errors
    assert isinstance(error, ModelsFolderUnusable)
    assert "MODELS_CACHE" in str(error)


async def test_the_mapping_may_hold_the_list_or_name_it(bed: Bed) -> None:
    bed.lists(bed.entry("loras/m"))
    text = bed.settings.models_manifest
    assert text is not None
    listed = json.loads(text.read_text())["models"]
    by_path = Bed(bed.root, bed.server, options={"models": str(text)})
    inline = Bed(bed.root, bed.server, options={"models": json.dumps(listed)})
    for one in (by_path, inline):
        context = InstallContext(service="comfyui", options=one.options, paths=one.paths)
        assert [entry.target for entry in ModelFiles.of(context).entries] == ["loras/m"]


async def test_a_list_that_is_not_there(bed: Bed) -> None:
    with pytest.raises(FileNotRead, match=r"MODELS_MANIFEST=.*models\.json can't be read"):
        await bed.install()


async def test_a_lock_is_waited_for_and_its_growth_is_told(tmp_path: Path) -> None:
    lock, watched, lines = tmp_path / "a" / "lock", tmp_path / "file", list[str]()
    watched.write_bytes(b"x" * 2048)

    def taken() -> Any:
        return held(lock, lines.append, what="another brings it", watched=watched)

    async with taken():
        waiting = asyncio.create_task(_hold(taken()))
        while not lines:  # noqa: ASYNC110 - a line in a list
            await asyncio.sleep(0)
    await waiting
    assert lines == ["another brings it: 2.0 KiB so far"]


async def _hold(lock: Any) -> None:
    async with lock:
        pass


async def test_a_killed_installation_goes_on_where_it_was(bed: Bed, tmp_path: Path) -> None:
    data = os.urandom(4 << 20)
    bed.lists(bed.entry("checkpoints/big", data))
    stall = bed.server.files["checkpoints/big"].stall = asyncio.Event()
    words = ("-m", "tests.support.model_installation", str(tmp_path))
    process = await asyncio.create_subprocess_exec(
        sys.executable, *words, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    while b"MiB of 4.0 MiB" not in await process.stdout.readline():
        pass
    process.send_signal(signal.SIGKILL)
    await process.wait()
    await process.stdout.read()
    stall.set()
    assert not (bed.models / "checkpoints/big").exists()
    came = (bed.models / "checkpoints/.big.partial").stat().st_size
    assert came > 1 << 20
    await bed.install()
    assert (bed.models / "checkpoints/big").read_bytes() == data
    assert bed.server.asked[-1][1]["Range"] == f"bytes={came}-"
    assert any("was cut short by an earlier end" in line for line in bed.lines)


async def test_a_killed_installation_in_pieces_goes_on_with_those_that_lack(
    bed: Bed, tmp_path: Path
) -> None:
    data = os.urandom(48 << 20)
    bed.lists(bed.entry("checkpoints/big", data))
    words = ("-m", "tests.support.model_installation", str(tmp_path), "pieces")
    process = await asyncio.create_subprocess_exec(
        sys.executable, *words, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    partial = File(url="", sha256=bed.server.files["checkpoints/big"].sha256).partial(
        bed.models / "checkpoints/.big.partial"
    )
    while (cut := partial.cut) is None or len(cut.done) < 8:
        assert await process.stdout.readline()  # a line for all that comes
    process.send_signal(signal.SIGKILL)
    await process.wait()
    await process.stdout.read()
    assert not (bed.models / "checkpoints/big").exists()
    noted = partial.cut
    assert noted is not None
    assert noted.count == 192
    lacking = [noted.span(n) for n in range(noted.count) if n not in noted.done]
    assert lacking
    asked = len(bed.server.asked)
    await bed.install()
    assert (bed.models / "checkpoints/big").read_bytes() == data
    # Those that were noted as finished, eight or more, and no others are not asked for again.
    pieces = [headers["Range"] for _, headers in bed.server.asked[asked:]]
    assert sorted(pieces) == sorted(f"bytes={start}-{end - 1}" for start, end in lacking)
