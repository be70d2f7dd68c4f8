"""The models of a list: downloaded, checked and put in their places, each by a step of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import attrs

from machine_lifecycle.config.models import ModelEntry, parse_models
from machine_lifecycle.installers.base import fingerprint
from machine_lifecycle.installers.download_errors import ModelInTheWay
from machine_lifecycle.installers.downloading import Downloader
from machine_lifecycle.installers.errors import ModelsFolderUnusable
from machine_lifecycle.installers.folder_lock import held, size_of
from machine_lifecycle.installers.models import Models
from machine_lifecycle.installers.models_folder import Kept, Shelf, cached, link
from machine_lifecycle.installers.origins import Origins
from machine_lifecycle.installers.partial_file import File, hash_of
from machine_lifecycle.installers.pieces import Pieces
from machine_lifecycle.model.installing import DOWNLOADS, InstallContext, Step, StepContext
from machine_lifecycle.model.text import human_bytes
from machine_lifecycle.system.files import read_named

__all__ = ["ModelFiles", "ModelState", "listed_models"]

_LIMIT = 6 * 3600.0
"""Seconds for one model at least; what stands still is cut long before."""
_SLOWEST = 1 << 20
"""Bytes per second below which a model whose size is known takes too long."""


def listed_models(context: InstallContext) -> tuple[ModelEntry, ...]:
    """The list of models: that of the settings, else the mapping's own or the one it names.

    Raises:
        Problems: It can't be used.
        FileNotRead: It can't be read.
    """
    path, text = context.settings.models_manifest, context.options.get("models", "").strip()
    if path is None and text.startswith(("[", "{")):
        return parse_models(text, context.environ, "installer_config.models")
    if path is None and not text:
        return ()
    by = "MODELS_MANIFEST" if path else ""
    path = path or Path(text).expanduser()
    return parse_models(read_named(path, by), context.environ, str(path))


@attrs.frozen(kw_only=True)
class ModelState:
    """How one model of the list does.

    Attributes:
        entry: What the list says.
        path: Its file.
        there: Whether it is in its place, whole.
        other: Whether a file has its name that nobody looked at, or that is another one.
        have: Bytes that are there, or came so far.
        sha256: Of the file that is there.
    """

    entry: ModelEntry
    path: Path
    there: bool
    other: bool
    have: int
    sha256: str

    @property
    def word(self) -> str:
        """In a word: ``there``, ``partial``, ``missing``, or ``unproved`` for a file that is not
        known to be the model.
        """
        if self.there:
            return "there"
        if self.other:
            return "unproved"
        return "partial" if self.have else "missing"


@attrs.frozen
class ModelFiles:
    """The listed models of one ComfyUI.

    Attributes:
        entries: The list.
        shelves: Folders of models, the one that is written to first.
        cache: Folder that keeps files by their digest; None: there is none.
        downloader: Shared by all of them.
    """

    entries: tuple[ModelEntry, ...]
    shelves: tuple[Shelf, ...]
    cache: Path | None
    downloader: Downloader

    @classmethod
    def of(cls, context: InstallContext) -> ModelFiles:
        """As the settings and the mapping say.

        Raises:
            Problems: The list can't be used.
            FileNotRead: It can't be read.
        """
        folders = Models.of(context)
        roots = (folders.beside, folders.home / "models")
        shelves = tuple(Shelf(root) for root in roots if root is not None)
        cache, origins = context.settings.models_cache, Origins.of(context.settings)
        pieces = Pieces(connections=context.settings.models_connections)
        downloader = Downloader(context.environ, mirrored=origins.address, pieces=pieces)
        return cls(listed_models(context), shelves, cache, downloader)

    def steps(self) -> tuple[Step, ...]:
        """A step for each model."""
        return tuple(self._step(entry) for entry in self.entries)

    def shelf(self, entry: ModelEntry) -> Shelf:
        """Where a model is; if it is nowhere, where it belongs."""
        there = (one for one in self.shelves if one.path(entry.target).exists())
        open_to_us = (one for one in self.shelves if not one.fixed)
        return next(there, None) or next(open_to_us, self.shelves[-1])

    def _step(self, entry: ModelEntry) -> Step:
        file = _file(entry)

        async def run(ctx: StepContext) -> None:
            await _Placing(entry, self.shelf(entry), self.cache, self.downloader).run(ctx)

        def present() -> bool:
            shelf = self.shelf(entry)
            kept = shelf.kept(entry.target)
            if kept is None and shelf.fixed:
                return _as_large(shelf.path(entry.target), entry.size)
            return _is_of(kept, entry)

        return Step(
            id=f"model {entry.target}",
            summary=f"download {entry.plain_url}",
            fingerprint=fingerprint(file.identity, entry.size, self.shelves[0].root),
            needs=("folders",),
            timeout=_LIMIT + entry.size / _SLOWEST,
            required=entry.required,
            lane=DOWNLOADS,
            space=entry.size,
            run=run,
            present=present,
        )

    def states(self) -> Iterator[ModelState]:
        """How each model does, by what is written down of it; no file is read."""
        for entry in self.entries:
            shelf, file = self.shelf(entry), _file(entry)
            path, kept = shelf.path(entry.target), shelf.kept(entry.target)
            store = cached(self.cache, entry.sha256) if self.cache and entry.sha256 else None
            partial = shelf.partial(entry.target)
            if store is not None:
                partial = store.with_name(f"{store.name}.partial")
            yield ModelState(
                entry=entry,
                path=path,
                there=_is_of(kept, entry),
                other=path.exists() and not _is_of(kept, entry),
                have=size_of(path) or file.partial(partial).size,
                sha256=kept.sha256 if kept is not None and _is_of(kept, entry) else "",
            )

    async def pinned(
        self, entry: ModelEntry, state: ModelState, report: Callable[[str], None]
    ) -> tuple[str, int]:
        """SHA-256 and size of a model: of the file that is there, else as its server tells them.

        Raises:
            LifecycleError: The server does not answer, or not so.
        """
        if state.sha256:
            return state.sha256, size_of(state.path)
        report(f"asking {entry.plain_url}")
        return await self.downloader.announced(_file(entry))

    async def differences(self, report: Callable[[str], None]) -> AsyncIterator[tuple[str, str]]:
        """Every model that is other than the list says, all its bytes read: target and problem."""
        for entry in self.entries:
            shelf = self.shelf(entry)
            path = shelf.path(entry.target)
            report(f"looking at model {entry.target}")
            if not path.is_file():
                yield entry.target, f"is not there: {path}"
                continue
            kept = shelf.kept(entry.target)
            wanted = entry.sha256 or (kept.sha256 if kept else "")
            if problem := await _difference(path, entry.size, wanted):
                yield entry.target, f"{problem}: {path}"


@attrs.frozen
class _Placing:
    """Has one model in its place."""

    entry: ModelEntry
    shelf: Shelf
    cache: Path | None
    downloader: Downloader

    async def run(self, ctx: StepContext) -> None:
        """Have it there, whole and checked. A file of the user's stays.

        Raises:
            ModelInTheWay: Another file has its name.
            ModelsFolderUnusable: Nothing can be put there, or into the cache.
            LifecycleError: It can't be downloaded.
        """
        target, shelf = self.entry.target, self.shelf
        if shelf.fixed:
            if not await self._is_there(ctx):
                problem = f"it can only be read, and {target} is not in it"
                raise ModelsFolderUnusable(folder=shelf.root, problem=problem)
            return
        path, file = shelf.path(target), _file(self.entry)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            async with self._alone(shelf.lock(target), ctx):
                if await self._is_there(ctx):
                    return
                if self._in_cache is None:
                    sha256 = await self._download(self._partial, path, ctx)
                else:
                    sha256 = await self._through_cache(self._in_cache, path, ctx)
                shelf.note(target, file.identity, sha256)
        except (PermissionError, NotADirectoryError, FileExistsError) as error:
            folder = Path(error.filename or path)
            of_cache = self.cache is not None and folder.is_relative_to(self.cache)
            variable = "MODELS_CACHE" if of_cache else "COMFYUI_MODELS_PATH"
            raise ModelsFolderUnusable(
                folder=folder, problem=error.strerror or str(error), variable=variable
            ) from error

    def _alone(self, lock: Path, ctx: StepContext) -> AbstractAsyncContextManager[int]:
        return held(lock, ctx.report, what="another machine brings it", watched=self._partial)

    @property
    def _in_cache(self) -> Path | None:
        # What has no digest can't be told from its next version, so nobody shares it.
        if self.cache is None or not self.entry.sha256:
            return None
        return cached(self.cache, self.entry.sha256)

    @property
    def _partial(self) -> Path:
        store = self._in_cache
        if store is None:
            return self.shelf.partial(self.entry.target)
        return store.with_name(f"{store.name}.partial")

    async def _is_there(self, ctx: StepContext) -> bool:
        """Whether the file there is the model. One that we put there before may be replaced.

        Raises:
            ModelInTheWay: It is neither.
        """
        entry, shelf = self.entry, self.shelf
        path = shelf.path(entry.target)
        if not path.exists():
            return False
        kept = shelf.kept(entry.target)
        if kept is not None:
            return _is_of(kept, entry)
        ctx.report("a file of that name is there already; reading it")
        if problem := await _difference(path, entry.size, entry.sha256):
            raise ModelInTheWay(path=path, problem=problem)
        if not shelf.fixed:
            sha256 = entry.sha256 or (await hash_of(path)).hexdigest()
            shelf.note(entry.target, _file(entry).identity, sha256)
        return True

    async def _through_cache(self, store: Path, path: Path, ctx: StepContext) -> str:
        store.parent.mkdir(parents=True, exist_ok=True)
        async with self._alone(store.with_name(f"{store.name}.lock"), ctx):
            if not _as_large(store, self.entry.size):
                await self._download(self._partial, store, ctx)
            how = link(store, path)
        ctx.report(f"is a {how} to {store}")
        return self.entry.sha256

    async def _download(self, partial: Path, path: Path, ctx: StepContext) -> str:
        file = _file(self.entry)
        sha256 = await self.downloader.bring(file, partial, ctx.report)
        file.partial(partial).place(path)
        ctx.report(f"{human_bytes(size_of(path))}, checked")
        return sha256


def _as_large(path: Path, size: int) -> bool:
    """Whether a file is there, and as large as it should be, if that is known."""
    found = size_of(path)
    return found > 0 and found == (size or found)


def _is_of(kept: Kept | None, entry: ModelEntry) -> bool:
    """Whether what was put there is what the list says, which may have got its digest since."""
    if kept is None:
        return False
    return kept.of == _file(entry).identity or kept.sha256 == entry.sha256


def _file(entry: ModelEntry) -> File:
    return File(url=entry.url, sha256=entry.sha256, size=entry.size)


async def _difference(path: Path, size: int, sha256: str) -> str:
    """How a file differs from what is known of it; empty: not at all."""
    there = size_of(path)
    if size and there != size:
        return f"has {there:,} bytes, not {size:,}"
    if not there:
        return "is empty"
    if sha256 and (found := (await hash_of(path)).hexdigest()) != sha256:
        return f"has the SHA-256 {found}, not {sha256}"
    return ""
