"""A study in an object store: `--output s3://bucket/study`, or any other URL that fsspec knows.

The study lives in a folder of this machine. At the start, what the store holds is copied there (`restore`); while the
study works, a thread copies what is new into the store (`mirrored`). An object is written as a whole, and the manifest
after the files that it describes, so the store always holds a study that is whole. If the store is away, the work goes
on, and the copy is made later.

URLs with a password are refused, and no message quotes what a library says about a request: credentials belong into the
environment, or into a file of the store's library.
"""

import contextlib
import hashlib
import importlib.util
import json
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

from tuneoff.beside import beside
from tuneoff.cache import cache_folder
from tuneoff.errors import RunFailure, UserError
from tuneoff.results.json_files import TEMPORARY_PREFIX, write_text_atomic
from tuneoff.results.manifest import (
    MANIFEST,
    FileEntry,
    Manifest,
    digest_of,
    entry_of,
    fault_of,
    manifest_text,
    parse_manifest,
)
from tuneoff.results.run_dir import RECORD, RunDir
from tuneoff.results.study_dir import OUTPUTS, STORE_FILE, StudyDir
from tuneoff.text import sanitize

INSTALL = "run pip install 'tuneoff[store]'"
_URL = re.compile(r"([a-z][a-z0-9+.-]+)://(.*)")
_PATH_OF_URL = re.compile(r"([a-z][a-z0-9+.-]+):/{1,3}([^/].*)")
_RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+=-]*")
_GROWING = ("events.jsonl", "log.txt")
_IN_MEMORY_BYTES = 2**24  # larger files are copied piece by piece
_PAUSE_SECONDS = 2.0  # between two looks at the folder
_FIRST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS = 0.5, 30.0
_PATIENCE_SECONDS = 60.0  # at the start and at the end; between them, there is no hurry

Result = TypeVar("Result")


def url_of(place: str | os.PathLike[str]) -> str | None:
    """The URL of an object store that `place` names; None for a folder. A `Path` has lost one of two slashes."""
    found = _PATH_OF_URL.fullmatch(str(place))
    if found is None or Path(place).exists():
        return None
    return f"{found[1]}://{'/' if found[1] == 'file' else ''}{found[2]}"


class StoreIsAway(Exception):
    """The store does not answer, or refuses. The message has no detail of the request."""


class Store:
    """The objects below one URL, by their names relative to it. Methods raise `StoreIsAway`."""

    def __init__(self, url: str) -> None:
        """Raises `UserError` for a URL that cannot be used, or without the library for it."""
        found = _URL.fullmatch(url)
        if found is None or not found[2].strip("/"):
            raise UserError(f"{sanitize(url)}: a URL such as s3://bucket/study was expected")
        if "@" in found[2].partition("/")[0] or "?" in url:
            raise UserError(
                f"{found[1]}://...: a URL with credentials or parameters would be stored and shown; give those to the "
                "store's library by its environment variables or its file, and name only bucket and path"
            )
        self.url = url.rstrip("/")
        if importlib.util.find_spec("fsspec") is None:
            raise UserError(f"{self.url}: needs fsspec, which is not installed; {INSTALL}")
        import fsspec

        try:
            self._system, self._root = fsspec.core.url_to_fs(self.url, use_listings_cache=False)
        except (ImportError, ValueError) as error:
            raise UserError(
                f"{self.url}: {found[1]}:// cannot be used ({type(error).__name__}); for s3://, {INSTALL}; for others, "
                "install the package that fsspec names for it"
            ) from error

    def read(self, name: str) -> bytes | None:
        """An object; None if there is none."""
        return _asked(lambda: bytes(self._system.cat_file(self._path(name))), None)

    def write(self, name: str, data: bytes) -> None:
        """Write an object as a whole."""
        _asked(lambda: self._system.pipe_file(self._path(name), data), None)

    def upload(self, name: str, path: Path) -> None:
        """Write a file of this machine as an object."""
        _asked(lambda: self._system.put_file(str(path), self._path(name)), None)

    def download(self, name: str, path: Path) -> bool:
        """Write an object into a file; False if there is none."""
        return _asked(lambda: self._system.get_file(self._path(name), str(path)) is None or True, False)

    def names(self) -> list[str]:
        """The names of all objects."""
        prefix = f"{self._root.rstrip('/')}/"
        found: list[str] = _asked(lambda: list(self._system.find(self._root)), [])
        return [path.removeprefix(prefix) for path in found if path.startswith(prefix)]

    def delete(self, name: str) -> None:
        """Delete an object, if there is one."""
        _asked(lambda: self._system.rm_file(self._path(name)), None)

    def _path(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}"


def _asked(request: Callable[[], Result], missing: Result) -> Result:
    """The answer to a request; `missing` if there is no such object. Raises `StoreIsAway`."""
    try:
        return request()
    except FileNotFoundError:
        return missing
    except Exception as error:  # each library has errors of its own; their texts may quote signed requests
        raise StoreIsAway(type(error).__name__) from None


def _patiently(action: Callable[[], Result], seconds: float) -> Result:
    """The result of `action`, which is tried again with growing pauses. Raises `StoreIsAway` after `seconds` s."""
    end, pause = time.monotonic() + seconds, _FIRST_WAIT_SECONDS
    while True:
        try:
            return action()
        except StoreIsAway:
            if time.monotonic() + pause > end:
                raise
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_WAIT_SECONDS)


def local_copy(url: str) -> Path:
    """The folder of this machine that a study in a store is copied to, whether it exists or not.

    What it is in is made here, for this user alone. Raises `UserError` if that is not possible.
    """
    stores = cache_folder() / "stores"
    try:
        stores.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{stores}: cannot be made ({error.strerror}); set TUNEOFF_CACHE to another folder") from error
    name = re.sub(r"[^A-Za-z0-9]+", "-", url.rstrip("/").rpartition("/")[2])[:40]
    return stores / f"{name}-{hashlib.sha256(url.rstrip('/').encode()).hexdigest()[:12]}"


# ---- from the store -------------------------------------------------------------------------------------------------


def restored(url: str, *, patience: float = _PATIENCE_SECONDS) -> Path:
    """The folder that holds a copy of the study in the store.

    Raises `UserError` if the store cannot be read, if it holds no study, or something damaged.
    """
    store = Store(url)
    folder = StudyDir(local_copy(url))
    _patient_restore(store, folder, patience)
    if not folder.is_study() and not folder.run_dirs():
        raise UserError(f"{store.url}: contains no study; name the URL that `tuneoff compare` was given as --output")
    return folder.path


def _patient_restore(store: Store, folder: StudyDir, patience: float) -> dict[str, FileEntry]:
    try:
        return _patiently(lambda: restore(store, folder), patience)
    except StoreIsAway as error:
        raise UserError(
            f"{store.url}: the store cannot be read ({error}); check its address and the credentials in the "
            "environment, then run the same command again"
        ) from error


def restore(store: Store, folder: StudyDir) -> dict[str, FileEntry]:
    """Copy what the store holds and the folder lacks; the entries of the store's manifest.

    A run that the folder has stays as it is. The study's own files are taken from the store, unless nobody but this
    folder has written there since. Raises `StoreIsAway`, or `UserError` for damaged objects.
    """
    data = store.read(MANIFEST)
    names = set(store.names())
    if not names:
        return {}
    manifest = Manifest() if data is None else parse_manifest(data, Path(f"{store.url}/{MANIFEST}"))
    with folder.lock():
        runs = sorted(
            {name.split("/")[1] for name in names if name.startswith("runs/") and name.endswith(f"/{RECORD}")}
        )
        new = [name for name in runs if _RUN_NAME.fullmatch(name) and not folder.run_dir(name).has_record()]
        for name in new:
            _restore_run(store, folder.run_dir(name), names)
        if data is not None and digest_of(data) != _state(folder):
            _restore_study(store, folder, manifest, data)
            _restore_outputs(store, folder)
        folder.cover_runs(new)
        if data is not None:
            _remember(folder, store, data)
    return dict(manifest.files)


def _restore_run(store: Store, run: RunDir, names: set[str]) -> None:
    """Copy one run, its record last."""
    prefix = f"runs/{run.name}/"
    data = store.read(f"{prefix}{MANIFEST}")
    files = parse_manifest(data, Path(f"{store.url}/{prefix}{MANIFEST}")).files if data is not None else {}
    growing = {name: None for name in _GROWING if f"{prefix}{name}" in names}
    for name, entry in {**files, **growing}.items():
        if name != RECORD:
            _fetch(store, f"{prefix}{name}", run.path / name, entry)
    if data is not None:
        write_text_atomic(run.path / MANIFEST, data.decode())
    _fetch(store, f"{prefix}{RECORD}", run.path / RECORD, files.get(RECORD))


def _restore_study(store: Store, folder: StudyDir, manifest: Manifest, data: bytes) -> None:
    """Copy the study's own files. A folder without a study gets the store's manifest as it is."""
    own = {name: entry for name, entry in manifest.files.items() if not name.startswith("runs/")}
    if folder.is_study():
        for name, entry in own.items():
            found = store.read(name)
            if found is not None:
                _check(found, entry, store, name)
                folder.covered.write(name, found.decode())
        return
    for name, entry in own.items():
        _fetch(store, name, folder.path / name, entry)
    write_text_atomic(folder.path / MANIFEST, data.decode())


def _restore_outputs(store: Store, folder: StudyDir) -> None:
    data = store.read(OUTPUTS)
    if data is None:
        return
    for name, entry in parse_manifest(data, Path(f"{store.url}/{OUTPUTS}")).files.items():
        _fetch(store, name, folder.path / name, entry)
    write_text_atomic(folder.path / OUTPUTS, data.decode())


def _fetch(store: Store, name: str, path: Path, entry: FileEntry | None) -> None:
    """Copy an object into a file, which appears as a whole. Raises `UserError` if it is not what `entry` says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{TEMPORARY_PREFIX}restored-{path.name}")
    try:
        if not store.download(name, temporary):
            if entry is not None and not (entry.pending and entry.before is None):
                raise UserError(f"{store.url}/{name}: missing; copy it there again, or choose another --output")
            return
        if entry is not None and (fault := fault_of(temporary, entry)) is not None:
            raise UserError(f"{store.url}/{name}: {fault}; copy it there again, or choose another --output")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _check(data: bytes, entry: FileEntry, store: Store, name: str) -> None:
    allowed = {entry.sha256} | ({entry.before} if entry.pending else set())
    if digest_of(data) not in allowed:
        raise UserError(f"{store.url}/{name}: damaged; copy it there again, or choose another --output")


def _state(folder: StudyDir) -> str | None:
    """Digest of the store's manifest when this folder was last the same."""
    try:
        found = json.loads((folder.path / STORE_FILE).read_bytes())["manifest"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if isinstance(found, str) else None


def _remember(folder: StudyDir, store: Store, manifest: bytes) -> None:
    text = json.dumps({"url": store.url, "manifest": digest_of(manifest)}) + "\n"
    write_text_atomic(folder.path / STORE_FILE, text)


# ---- to the store ---------------------------------------------------------------------------------------------------


class _Changing(Exception):
    """A file was being written while it was to be copied."""


class Mirror:
    """Copies a folder into a store. `known`: the entries of the store's manifest."""

    def __init__(self, folder: StudyDir, store: Store, known: Mapping[str, FileEntry]) -> None:
        self._folder, self._store = folder, store
        self._known = dict(known)
        self._outputs: dict[str, FileEntry] = {}

    def push(self) -> int:
        """Copy what is new; the number of files. Raises `StoreIsAway`, after which the next call goes on.

        Nothing is copied while the study writes: the next call finds it at rest.
        """
        try:
            text = (self._folder.path / MANIFEST).read_bytes()
            files = parse_manifest(text, self._folder.path / MANIFEST).files
            return self._push_files(files, text) + self._push_outputs()
        except (FileNotFoundError, UserError, _Changing):
            return 0

    def is_behind(self) -> bool:
        """Whether the folder holds anything that the store lacks."""
        return bool(
            _changed(self._folder.covered.files, self._known) or _changed(self._folder.outputs() or {}, self._outputs)
        )

    def _push_files(self, files: Mapping[str, FileEntry], text: bytes) -> int:
        self._settle()
        new = _changed(files, self._known)
        gone = [name for name in self._known if name not in files]
        if not new and not gone:
            return 0
        replaced = {
            name: entry.model_copy(update={"pending": True, "before": self._known[name].sha256})
            for name, entry in new.items()
            if name in self._known
        }
        if replaced:  # whoever reads in between finds either version to be right
            between = manifest_text(Manifest(files={**self._known, **replaced}))
            self._store.write(MANIFEST, between.encode())
        for name in sorted(new, key=lambda each: (each.endswith(f"/{RECORD}"), each)):
            self._put(name, new[name])
            if name.endswith(f"/{RECORD}"):
                for growing in _GROWING:
                    self._put(name.removesuffix(RECORD) + growing, None)
        self._store.write(MANIFEST, text)
        settled = {"pending": False, "before": None}
        self._known = {name: entry.model_copy(update=settled) for name, entry in files.items()}
        _remember(self._folder, self._store, text)
        for name in gone:
            self._store.delete(name)
        return len(new)

    def _settle(self) -> None:
        """Find out what the objects are that were being replaced when the last copy was interrupted."""
        for name in [name for name, entry in self._known.items() if entry.pending]:
            data = self._store.read(name)
            if data is None:
                del self._known[name]
            else:
                self._known[name] = entry_of(data)

    def _push_outputs(self) -> int:
        """Copy summary, report and pictures, and last what describes them."""
        outputs = self._folder.outputs()
        new = _changed(outputs or {}, self._outputs)
        if outputs is None or not new:
            return 0
        self._store.delete(OUTPUTS)
        for name, entry in new.items():
            self._put(name, entry)
        self._put(OUTPUTS, None)
        self._outputs = outputs
        return len(new)

    def _put(self, name: str, entry: FileEntry | None) -> None:
        """Copy a file that is as its entry says. Raises `_Changing` for any other."""
        path = self._folder.path / name
        if entry is not None and entry.bytes > _IN_MEMORY_BYTES:
            if fault_of(path, entry, thorough=False) is not None:
                raise _Changing
            self._store.upload(name, path)
            return
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            if entry is None:
                return
            raise _Changing from None
        if entry is not None and digest_of(data) != entry.sha256:
            raise _Changing
        self._store.write(name, data)


def _changed(files: Mapping[str, FileEntry], known: Mapping[str, FileEntry]) -> dict[str, FileEntry]:
    """The files that are not known with the same content."""
    return {name: entry for name, entry in files.items() if name not in known or known[name].sha256 != entry.sha256}


@contextlib.contextmanager
def placed(place: str | os.PathLike[str], notify: Callable[[str], None]) -> Iterator[Path]:
    """The folder to work in: `place`, or for a URL what `mirrored` gives. `notify` is informed. Raises as that does."""
    url = url_of(place)
    if url is None:
        yield Path(place)
        return
    with mirrored(url, notify) as folder:
        yield folder


@contextlib.contextmanager
def mirrored(
    url: str, notify: Callable[[str], None], *, pause: float = _PAUSE_SECONDS, patience: float = _PATIENCE_SECONDS
) -> Iterator[Path]:
    """The folder of this machine that holds the study of a store; inside, what is new there is copied into the store.

    Raises:
        UserError: If the store cannot be read at the start.
        RunFailure: At the end, if not everything could be copied within `patience` s. It is still in the folder.
    """
    store, folder = Store(url), StudyDir(local_copy(url))
    folder.path.mkdir(parents=True, exist_ok=True)
    mirror = Mirror(folder, store, _patient_restore(store, folder, patience))
    try:
        with beside(lambda ended: _copy_until(ended, mirror, store, folder, notify, pause)):
            yield folder.path
    except BaseException:
        with contextlib.suppress(StoreIsAway):
            mirror.push()
        if mirror.is_behind():
            notify(f"{store.url}: not everything could be copied there; the next start of the command copies the rest")
        raise
    with contextlib.suppress(StoreIsAway):
        _patiently(mirror.push, patience)
    if mirror.is_behind():
        raise RunFailure(
            f"{store.url}: the store is away, and not everything could be copied there; all of it is in {folder.path}, "
            "and the same command copies it"
        )


def _copy_until(
    ended: threading.Event,
    mirror: Mirror,
    store: Store,
    folder: StudyDir,
    notify: Callable[[str], None],
    pause: float,
) -> None:
    """Copy what is new, until `ended`. Says once that the store is away, and once that it is back."""
    wait, away = pause, False
    while not ended.wait(wait):
        try:
            mirror.push()
        except StoreIsAway as error:
            if not away:
                notify(f"{store.url}: the store is away ({error}); the study goes on, its results are in {folder.path}")
            away, wait = True, min(2 * wait, _LONGEST_WAIT_SECONDS)
        else:
            if away:
                notify(f"{store.url}: the store is back, and holds what was computed meanwhile")
            away, wait = False, pause
