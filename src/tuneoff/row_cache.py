"""Cached rows of numbers on disk, found by a digest: each process appends to a file of its own, and reads all of them.

Unlike the files of `tuneoff.cache`, these grow while they are used. A file is a sequence of records, each with the
digests of its row and of its content, so a damaged or half-written record is never used. No file holds code.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import struct
import tempfile
import threading
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tuneoff import cache

_MAGIC = b"tuneoff rows 1\n\0"
# Digest of the row, bytes of the content, seconds that computing it took, digest of all this and the content.
_RECORD = struct.Struct("<32sQd32s")
# All files of one key together. A data set of 2,000 documents of 300 tokens is 1.4 GB at a width of 576 in fp32.
_MAX_BYTES = 4 * 10**9
# Disk space that is left free for everything else.
_MIN_FREE_BYTES = 5 * 10**9


@dataclass(frozen=True)
class CachedRow:
    """The content of a row, and how long computing it took."""

    content: bytes
    seconds: float
    written_here: bool
    """Whether this process computed it."""


class RowCache:
    """The rows of one key. Rows that other processes append later are not seen.

    Appending stops when the rows of the key hold 4 GB, when less than 5 GB of the disk would be left, or at the first
    error: a cache that cannot be written only costs time.
    """

    def __init__(self, key: str) -> None:
        self._key = key
        self._folder = cache.cache_folder() / cache.ROWS
        self._lock = threading.Lock()
        self._places: dict[bytes, tuple[IO[bytes], int]] = {}
        self._bytes = 0
        self._own: IO[bytes] | None = None
        self._full = False
        for path in sorted(self._folder.glob(f"{key}.*")):
            self._index(path)

    def __len__(self) -> int:
        return len(self._places)

    def get(self, row: bytes) -> CachedRow | None:
        """The row with this digest (32 bytes); None if it is not there, or damaged."""
        with self._lock:
            place = self._places.get(row)
            found = None if place is None else _read_record(*place)
            if place is None or found is None:
                self._places.pop(row, None)
                return None
            return CachedRow(*found, written_here=place[0] is self._own)

    def add(self, row: bytes, content: bytes, seconds: float) -> bool:
        """Append a row unless it is there; returns whether it is there now."""
        with self._lock:
            if row in self._places:
                return True
            size = _RECORD.size + len(content)
            try:
                if self._full or not self._has_room(size):
                    self._full = True
                    return False
                file = self._own or self._begin()
                at = file.seek(0, os.SEEK_END)
                file.write(_record(row, content, seconds))
            except OSError:
                self._full = True
                return False
            self._places[row] = (file, at)
            self._bytes += size
            return True

    def _has_room(self, size: int) -> bool:
        folder = next(each for each in (self._folder, *self._folder.parents) if each.exists())
        return self._bytes + size <= _MAX_BYTES and shutil.disk_usage(folder).free - size >= _MIN_FREE_BYTES

    def _begin(self) -> IO[bytes]:
        self._folder.mkdir(parents=True, exist_ok=True)
        number, name = tempfile.mkstemp(prefix=f"{self._key}.", dir=self._folder)
        self._own = os.fdopen(number, "w+b", buffering=0)
        weakref.finalize(self, self._own.close)
        self._own.write(_MAGIC)
        cache.delete_least_recently_used(Path(name))
        return self._own

    def _index(self, path: Path) -> None:
        try:
            file = path.open("rb", buffering=0)
        except OSError:
            return
        weakref.finalize(self, file.close)
        with contextlib.suppress(OSError):
            for row, at, size in _records(file):
                self._places.setdefault(row, (file, at))
                self._bytes += size
            os.utime(path)  # the time of the last use


def damaged_row_files() -> Iterator[Path]:
    """The files of rows that hold a record with another digest. Reads all of them."""
    for path in sorted((cache.cache_folder() / cache.ROWS).glob("*")):
        with contextlib.suppress(OSError), path.open("rb", buffering=0) as file:
            if file.read(len(_MAGIC)) != _MAGIC or any(_read_record(file, at) is None for _, at, _ in _records(file)):
                yield path


def _records(file: IO[bytes]) -> Iterator[tuple[bytes, int, int]]:
    """Row, place and size of each whole record. What follows a half-written record is not found."""
    end = file.seek(0, os.SEEK_END)
    file.seek(0)
    if file.read(len(_MAGIC)) != _MAGIC:
        return
    at = len(_MAGIC)
    while at + _RECORD.size <= end:
        file.seek(at)
        head = file.read(_RECORD.size)
        if len(head) < _RECORD.size:
            return
        row, length, _, _ = _RECORD.unpack(head)
        size = _RECORD.size + length
        if at + size > end:
            return
        yield row, at, size
        at += size


def _record(row: bytes, content: bytes, seconds: float) -> bytes:
    digest = _digest(row, content, seconds)
    return _RECORD.pack(row, len(content), seconds, digest) + content


def _digest(row: bytes, content: bytes, seconds: float) -> bytes:
    digest = hashlib.sha256(row)
    digest.update(struct.pack("<Qd", len(content), seconds))
    digest.update(content)
    return digest.digest()


def _read_record(file: IO[bytes], at: int) -> tuple[bytes, float] | None:
    """Content and seconds of the record at a place; None if it is damaged."""
    with contextlib.suppress(OSError, struct.error):
        file.seek(at)
        row, length, seconds, digest = _RECORD.unpack(file.read(_RECORD.size))
        content = file.read(min(length, _MAX_BYTES))
        if len(content) == length and _digest(row, content, seconds) == digest:
            return content, seconds
    return None
