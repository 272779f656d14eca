"""Cache files on disk. A file has one body and small tables, and is found by the key of what it was made from.

The layout is a header (one padded line of JSON), the body, the tables. The header holds the key, all lengths and a
SHA-256 of the rest. A damaged or foreign file is therefore ignored and written again. Files are written under a
temporary name and then renamed, so two processes may write the same one: the last one stays. No file holds code.
"""

import contextlib
import hashlib
import json
import os
import sys
import tempfile
import threading
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from tuneoff.errors import UserError
from tuneoff.regular_files import check_filled, open_regular

_FORMAT = 1
_HEADER_BYTES = 1024
_READ_BYTES = 1 << 20
# Above this size the least recently used files are deleted. It is about five data sets of a million pairs.
MAX_BYTES = 10 * 10**9
# Results from less input than this are computed again faster than anybody would notice.
WORTH_CACHING_BYTES = 1_000_000
# A file that is not cached is in memory up to this size, and in an unnamed temporary file above it.
_IN_MEMORY_BYTES = 32 * 2**20
_ANSWER = "answer"  # the table of a file without a body
_KINDS = ("checks", "examples", "speeds", "tokens", "tried")
ROWS = "trunks"  # the kind of `tuneoff.row_cache`, whose files grow


def cache_folder() -> Path:
    """The cache folder: `$TUNEOFF_CACHE`, `$XDG_CACHE_HOME/tuneoff`, or the default of the platform.

    Raises `UserError` for a user without a home folder.
    """
    try:
        if root := os.environ.get("TUNEOFF_CACHE"):
            return Path(root).expanduser()
        if root := os.environ.get("XDG_CACHE_HOME"):
            return Path(root).expanduser() / "tuneoff"
        if os.name == "nt" and (local := os.environ.get("LOCALAPPDATA")):
            return Path(local) / "tuneoff" / "cache"
        return Path.home() / ".cache" / "tuneoff"
    except RuntimeError as error:  # a container may run under a user id without a name
        raise UserError("this user has no home folder for a cache; set TUNEOFF_CACHE to a folder") from error


def cache_key(**parts: object) -> str:
    """The key of a file that was made from `parts` (JSON values)."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes. Raises `OSError`, and `UserError` for a pipe, a device or a hole."""
    with open_regular(path) as stream:
        check_filled(str(path), stream.fileno())
        return hashlib.file_digest(stream, "sha256").hexdigest()


def file_state_path(kind: str, file: Path) -> Path:
    """The small cache file of a `kind` that belongs to a file in its present state: path, size, modification time."""
    status = file.stat()
    key = f"{file.resolve()}|{status.st_size}|{status.st_mtime_ns}"
    return cache_folder() / kind / hashlib.sha256(key.encode()).hexdigest()


class CachedFile:
    """A finished file. Its `tables` are in memory; its body is read in parts. It closes itself when it is unused."""

    def __init__(self, file: IO[bytes], body_bytes: int, tables: Mapping[str, bytes]) -> None:
        self.tables = tables
        self.body_bytes = body_bytes
        self._file = file
        self._lock = threading.Lock()
        weakref.finalize(self, file.close)

    def read(self, start: int, size: int) -> bytes:
        """Read `size` bytes of the body from `start`. Raises `EOFError` if the file was truncated."""
        with self._lock:
            return _read_body(self._file, start, size)


def open_cached(kind: str, key: str) -> CachedFile | None:
    """Open the file of `kind` with this key. Returns None if there is no intact one."""
    path = _folder(kind) / key
    try:
        file = path.open("rb", buffering=0)
    except OSError:
        return None
    cached = _open_intact(file, kind, key)
    if cached is None:
        print(f"{path}: damaged, or of another version of tuneoff; it is made again", file=sys.stderr)
        return None
    with contextlib.suppress(OSError):
        os.utime(path)  # the time of the last use, for `delete_least_recently_used`
    return cached


def damaged_files() -> Iterator[Path]:
    """The files of the cache that would be made again, because their digest is another. Reads the whole cache."""
    for kind in _KINDS:
        for path in sorted(_folder(kind).glob("[!.]*")):
            with contextlib.suppress(OSError):  # another process may have deleted it
                if _open_intact(path.open("rb", buffering=0), kind, path.name) is None:
                    yield path


def _open_intact(file: IO[bytes], kind: str, key: str) -> CachedFile | None:
    """The file if it is what its header says; otherwise it is closed, and None is returned."""
    try:
        cached = _open_verified(file, kind, key)
    except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        cached = None
    if cached is None:
        file.close()
    return cached


def _open_verified(file: IO[bytes], kind: str, key: str) -> CachedFile | None:
    """The file if it matches its header. A malicious header can cause any of the errors that the caller catches."""
    file.seek(0)
    header = json.loads(file.read(_HEADER_BYTES))
    if (header["format"], header["kind"], header["key"]) != (_FORMAT, kind, key):
        return None
    body_bytes = int(header["body"])
    sizes = {str(name): int(size) for name, size in header["tables"].items()}
    file_bytes = file.seek(0, os.SEEK_END)
    if min((body_bytes, *sizes.values())) < 0 or file_bytes != _HEADER_BYTES + body_bytes + sum(sizes.values()):
        return None
    digest = hashlib.sha256()
    file.seek(_HEADER_BYTES)
    while chunk := file.read(_READ_BYTES):
        digest.update(chunk)
    expected = header.pop("sha256")
    digest.update(json.dumps(header).encode())
    if digest.hexdigest() != expected:
        return None
    tables, start = {}, body_bytes
    for name, size in sizes.items():
        tables[name] = _read_body(file, start, size)
        start += size
    return CachedFile(file, body_bytes, tables)


class CacheWriter:
    """Writes one file. Without a key, or if the cache folder cannot be written, only this process can read the file.

    Use it as a context manager: leaving it deletes an unfinished file.
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
            self._file = _unnamed_file()
        self._write(bytes(_HEADER_BYTES))

    def __enter__(self) -> "CacheWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._file is not None:
            self._file.close()
        if self._path is not None:
            with contextlib.suppress(OSError):
                self._path.unlink()

    def append(self, data: bytes) -> None:
        """Append to the body. Raises `OSError` if the disk has no room for a temporary file either."""
        self._digest.update(data)
        self._write(data)
        self.body_bytes += len(data)

    def read(self, start: int, size: int) -> bytes:
        """Read `size` bytes of the body so far, from `start`."""
        assert self._file is not None
        data = _read_body(self._file, start, size)
        self._file.seek(0, os.SEEK_END)
        return data

    def finish(self, tables: Mapping[str, bytes], *, keep: bool = True) -> CachedFile:
        """Add the tables and rename the file to its key; nothing can be appended afterwards.

        With `keep=False` the file is not cached: it serves this process only.
        """
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
                path = _folder(self._kind) / self._key
                self._path.replace(path)
                self._path = None
                delete_least_recently_used(path)
        return CachedFile(file, self.body_bytes, tables)

    def _write(self, data: bytes) -> None:
        assert self._file is not None
        try:
            _write_all(self._file, data)
        except OSError:
            if self._path is None:
                raise
            self._move_to_unnamed_file()
            _write_all(self._file, data)
        self._written += len(data)

    def _move_to_unnamed_file(self) -> None:
        """Continue in an unnamed file, because the cache folder has no room."""
        assert self._file is not None
        assert self._path is not None
        new = _unnamed_file()
        written = self._written
        self._file.seek(0)
        while written and (chunk := self._file.read(min(written, _READ_BYTES))):
            new.write(chunk)
            written -= len(chunk)
        self._file.close()
        self._path.unlink(missing_ok=True)
        self._file, self._path = new, None


def read_answer(kind: str, key: str) -> dict[str, Any] | None:
    """The JSON object that `write_answer` stored under a key; None if there is none."""
    if (cached := open_cached(kind, key)) is None:
        return None
    answer = json.loads(cached.tables.get(_ANSWER, b"null"))
    return answer if isinstance(answer, dict) else None


def write_answer(kind: str, key: str, answer: Mapping[str, Any]) -> None:
    """Store a small JSON object. A cache folder that cannot be written only costs time."""
    with CacheWriter(kind, key) as writer:
        writer.finish({_ANSWER: json.dumps(answer).encode()})


def _unnamed_file() -> IO[bytes]:
    return tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY_BYTES)


def _folder(kind: str) -> Path:
    return cache_folder() / kind


def _read_body(file: IO[bytes], start: int, size: int) -> bytes:
    file.seek(_HEADER_BYTES + start)
    data = file.read(size)
    while len(data) < size:
        more = file.read(size - len(data))
        if not more:
            raise EOFError("a cache file was truncated while it was in use")
        data += more
    return data


def _write_all(file: IO[bytes], data: bytes) -> None:
    done = 0
    while done < len(data):  # an unbuffered file may write only a part
        done += file.write(memoryview(data)[done:])


def delete_least_recently_used(new_file: Path) -> None:
    """Delete the least recently used files other than `new_file` until at most `MAX_BYTES` are left.

    A process that has such a file open can still read it.
    """
    found = []
    for kind in (*_KINDS, ROWS):
        for path in _folder(kind).glob("*"):
            with contextlib.suppress(OSError):
                status = path.stat()
                found.append((status.st_mtime, status.st_size, path))
    total = sum(size for _, size, _ in found)
    for _, size, path in sorted(found):
        if total <= MAX_BYTES:
            return
        if path != new_file:
            with contextlib.suppress(OSError):
                path.unlink()
                total -= size
