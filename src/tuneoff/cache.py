"""What can be made again and is kept on disk: files of one body and small tables, found by what they were made of.

A file is a header (a line of JSON, padded), the body, the tables. The header holds the key, all lengths and a SHA-256
of all else, so a damaged or foreign file is never taken; it is made anew. Files are written beside their place and
renamed, so two processes may make the same one: the last stays. Nothing in here is code.
"""

import contextlib
import hashlib
import json
import os
import tempfile
import threading
import weakref
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO

from tuneoff.errors import UserError

_FORMAT = 1
_HEADER_BYTES = 1024
_READ_BYTES = 1 << 20
# Beyond this, the files that were not used for longest are deleted: about five data sets of a million pairs.
MAX_BYTES = 10 * 10**9
# What is made of less is made anew faster than anybody would notice.
WORTH_KEEPING_BYTES = 1_000_000
# What is not kept lies in memory up to here, and in a nameless temporary file beyond.
_IN_MEMORY_BYTES = 32 * 2**20
_KINDS = ("examples", "tokens")


def cache_folder() -> Path:
    """Where tuneoff keeps what it can make again: `$TUNEOFF_CACHE`, `$XDG_CACHE_HOME/tuneoff`, or the platform's
    habit. Raises `UserError` for a user without a home."""
    if root := os.environ.get("TUNEOFF_CACHE"):
        return Path(root)
    if root := os.environ.get("XDG_CACHE_HOME"):
        return Path(root) / "tuneoff"
    if os.name == "nt" and (local := os.environ.get("LOCALAPPDATA")):
        return Path(local) / "tuneoff" / "cache"
    try:
        return Path.home() / ".cache" / "tuneoff"
    except RuntimeError as error:  # a container may run under a number that is nobody's
        raise UserError("this user has no home folder to keep a cache in; set TUNEOFF_CACHE to a folder") from error


def key_of(**parts: object) -> str:
    """The key of what was made of `parts` (JSON values)."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes. Raises `OSError`."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


class Kept:
    """A finished file: `tables` in memory, the body read in pieces. Closed when nobody holds it any more."""

    def __init__(self, file: IO[bytes], body_bytes: int, tables: Mapping[str, bytes]) -> None:
        self.tables = tables
        self.body_bytes = body_bytes
        self._file = file
        self._lock = threading.Lock()
        weakref.finalize(self, file.close)

    def read(self, start: int, size: int) -> bytes:
        """`size` bytes of the body from `start`. Raises `EOFError` when the file has lost its end."""
        with self._lock:
            return _read(self._file, start, size)


def find(kind: str, key: str) -> Kept | None:
    """The file of `kind` with this key; None when there is none that is whole."""
    path = _folder(kind) / key
    try:
        file = path.open("rb", buffering=0)
    except OSError:
        return None
    try:
        kept = _checked(file, kind, key)
    except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        kept = None
    if kept is None:
        file.close()
        return None
    with contextlib.suppress(OSError):
        os.utime(path)  # used just now, for `_prune`
    return kept


def _checked(file: IO[bytes], kind: str, key: str) -> Kept | None:
    """The file when it is what its header says. Raises whatever a hostile header can make these lines raise."""
    file.seek(0)
    header = json.loads(file.read(_HEADER_BYTES))
    if (header["format"], header["kind"], header["key"]) != (_FORMAT, kind, key):
        return None
    body_bytes = int(header["body"])
    sizes = {str(name): int(size) for name, size in header["tables"].items()}
    whole = file.seek(0, os.SEEK_END)
    if min(body_bytes, *sizes.values()) < 0 or whole != _HEADER_BYTES + body_bytes + sum(sizes.values()):
        return None
    digest = hashlib.sha256()
    file.seek(_HEADER_BYTES)
    while piece := file.read(_READ_BYTES):
        digest.update(piece)
    claimed = header.pop("sha256")
    digest.update(json.dumps(header).encode())
    if digest.hexdigest() != claimed:
        return None
    tables, start = {}, body_bytes
    for name, size in sizes.items():
        tables[name] = _read(file, start, size)
        start += size
    return Kept(file, body_bytes, tables)


class Keeper:
    """Writes one file. Without a key, or where the cache cannot be written, it is for this process alone.

    As a context: what was not finished is removed.
    """

    def __init__(self, kind: str, key: str | None) -> None:
        self._kind, self._key = kind, key
        self._path: Path | None = None  # of the unfinished file in the cache
        self._file: IO[bytes] | None = None
        self._digest = hashlib.sha256()
        self._written = 0
        self.body_bytes = 0
        if key is not None:
            with contextlib.suppress(OSError):
                folder = _folder(kind)
                folder.mkdir(parents=True, exist_ok=True)
                number, name = tempfile.mkstemp(prefix=f".{key}.", dir=folder)
                self._path, self._file = Path(name), os.fdopen(number, "w+b", buffering=0)
        if self._file is None:
            self._file = _nameless()
        self._write(bytes(_HEADER_BYTES))

    def __enter__(self) -> "Keeper":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._file is not None:
            self._file.close()
        if self._path is not None:
            with contextlib.suppress(OSError):
                self._path.unlink()

    def append(self, data: bytes) -> None:
        """Add to the body. Raises `OSError` when not even a temporary file has room."""
        self._digest.update(data)
        self._write(data)
        self.body_bytes += len(data)

    def read(self, start: int, size: int) -> bytes:
        """`size` bytes of what was appended, from `start`."""
        assert self._file is not None
        data = _read(self._file, start, size)
        self._file.seek(0, os.SEEK_END)
        return data

    def finish(self, tables: Mapping[str, bytes], *, keep: bool = True) -> Kept:
        """Add the tables and give the file its place, unless it shall not be kept. Nothing can be appended
        afterwards."""
        for table in tables.values():
            self._digest.update(table)
            self._write(table)
        header = {
            "format": _FORMAT,
            "kind": self._kind,
            "key": self._key,
            "body": self.body_bytes,
            "tables": {name: len(table) for name, table in tables.items()},
        }
        self._digest.update(json.dumps(header).encode())
        line = json.dumps(header | {"sha256": self._digest.hexdigest()}).encode().ljust(_HEADER_BYTES - 1) + b"\n"
        assert len(line) == _HEADER_BYTES
        assert self._file is not None
        self._file.seek(0)
        self._file.write(line)
        file, self._file = self._file, None
        if keep and self._path is not None and self._key is not None:
            with contextlib.suppress(OSError):
                place = _folder(self._kind) / self._key
                self._path.replace(place)
                self._path = None
                _prune(place)
        return Kept(file, self.body_bytes, tables)

    def _write(self, data: bytes) -> None:
        assert self._file is not None
        try:
            _write_all(self._file, data)
        except OSError:
            if self._path is None:
                raise
            self._leave()
            _write_all(self._file, data)
        self._written += len(data)

    def _leave(self) -> None:
        """Go on in a nameless file: the cache has no room."""
        assert self._file is not None
        assert self._path is not None
        new = _nameless()
        written = self._written
        self._file.seek(0)
        while written and (piece := self._file.read(min(written, _READ_BYTES))):
            new.write(piece)
            written -= len(piece)
        self._file.close()
        self._path.unlink(missing_ok=True)
        self._file, self._path = new, None


def _nameless() -> IO[bytes]:
    return tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY_BYTES)


def _folder(kind: str) -> Path:
    return cache_folder() / kind


def _read(file: IO[bytes], start: int, size: int) -> bytes:
    file.seek(_HEADER_BYTES + start)
    data = file.read(size)
    while len(data) < size:
        more = file.read(size - len(data))
        if not more:
            raise EOFError("a file of the cache has lost its end while it was in use")
        data += more
    return data


def _write_all(file: IO[bytes], data: bytes) -> None:
    done = 0
    while done < len(data):  # a file without a buffer may take a part only
        done += file.write(memoryview(data)[done:])


def _prune(just_made: Path) -> None:
    """Delete the files that were not used for longest until `MAX_BYTES` are left. A process that has one of them open
    keeps it."""
    found = []
    for kind in _KINDS:
        for path in _folder(kind).glob("*"):
            with contextlib.suppress(OSError):
                status = path.stat()
                found.append((status.st_mtime, status.st_size, path))
    total = sum(size for _, size, _ in found)
    for _, size, path in sorted(found):
        if total <= MAX_BYTES:
            return
        if path != just_made:
            with contextlib.suppress(OSError):
                path.unlink()
                total -= size
